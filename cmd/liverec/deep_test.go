package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	mediaprobe "github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/mend"
	"github.com/liverec/liverec/uploader"
)

// copyOnly is a target of which only reading is asked.
type copyOnly struct {
	uploader.Target
	b     []byte
	err   error
	calls int
}

func (s *copyOnly) ReadAt(_ context.Context, _ string, b []byte, off int64) (int, error) {
	if s.calls++; s.err != nil {
		return 0, s.err
	}
	return bytes.NewReader(s.b).ReadAt(b, off)
}

func TestContentIsMadeAnew(t *testing.T) {
	r, err := mend.File(t.Context(), brokenFLV(t), mend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(r.Parts[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := mediaprobe.Check(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(b)
	damaged[len(damaged)-100] ^= 1
	for _, c := range []struct {
		name    string
		from    uploader.Target
		content uint64
		ok      bool
		says    string
	}{
		{"the same", &copyOnly{b: b}, rep.Content, true, ""},
		{"one bit", &copyOnly{b: damaged}, rep.Content, false, "content hash"},
		{"another part", &copyOnly{b: b}, rep.Content + 1, false, "content hash"},
		{"no recording", &copyOnly{b: make([]byte, len(b))}, rep.Content, false, "not a recording"},
		{"away", &copyOnly{err: errors.New("away")}, rep.Content, false, "away"},
		{"not ours", &copyOnly{b: damaged}, 0, true, ""},
		{"cannot be read", struct{ uploader.Target }{}, rep.Content, true, ""},
	} {
		res := checked{OK: true, Answer: "ok", Proof: &segment.Proof{}}
		compareContent(t.Context(), c.from, segment.Delivery{Segment: segment.Segment{Size: int64(len(b)), Content: c.content}}, &res)
		if res.OK != c.ok || !strings.Contains(res.Error, c.says) || (res.Answer == "ok") != c.ok {
			t.Errorf("%s: %+v", c.name, res)
		}
		if s, ok := c.from.(*copyOnly); ok && s.calls > 4 {
			t.Errorf("%s: %d calls", c.name, s.calls)
		}
	}
}
