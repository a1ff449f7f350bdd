package flv

import (
	"bytes"
	"testing"
	"time"
)

// part writes a part as the recorder does: the head, tags, a patched head.
func part(t testing.TB, limit time.Duration, fs []frame) (*Head, []byte) {
	t.Helper()
	m, err := ParseMetadata(scriptBody(25))
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHead(HeadConfig{Video: videoConfig, Audio: audioConfig, Meta: m, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(h.Patch())
	for _, f := range fs {
		b = f.append(b)
		c := Classify(f.typ, f.body)
		h.Add(f.typ, int64(f.dts), len(f.body), c.Key)
	}
	if int64(len(b)) != h.Size() {
		t.Fatalf("the head counts %d bytes, the file has %d", h.Size(), len(b))
	}
	copy(b, h.Patch())
	return h, b
}

func TestScanFindsWhatWasWritten(t *testing.T) {
	h, b := part(t, time.Minute, frames(3, 500, 50))
	s, err := Scan(bytes.NewReader(b), int64(len(b)), ScanConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if s.End != int64(len(b)) || s.HeadLen != h.Len() || !s.HeadSound || s.Head == nil {
		t.Fatalf("scanned %+v", s)
	}
	if !bytes.Equal(s.Head.Patch(), h.Patch()) {
		t.Fatal("the head that was found differs from the one that was written")
	}
}
