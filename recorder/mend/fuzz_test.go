package mend_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/recorder/mend"
)

// Whatever is in a file: no panic, it stays as it is, and what comes out is sound or named as what it is not.
func FuzzFile(f *testing.F) {
	tags := live(f, liveroom.Config{}, 2*time.Second)
	short := tags[:3]
	for _, x := range tags[3:] {
		if len(short) < 12 && len(x.body) < 400 || x.key() && len(short) < 5 {
			short = append(short, x)
		}
	}
	f.Add(render(short))
	f.Add([]byte("\x00\x00\x00\x14ftypisom\x00\x00\x02\x00isom\x00\x00\x00\x10mdat\x00\x00\x00\x05\x65abc"))
	f.Add(bytes.Repeat(append([]byte{0x47, 0x40, 0, 0x10, 0}, make([]byte, 183)...), 6))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		dir := t.TempDir()
		name := filepath.Join(dir, "x.bin")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := mend.File(context.Background(), name, mend.Options{})
		if now, rerr := os.ReadFile(name); rerr != nil || !bytes.Equal(now, b) {
			t.Fatal("the file was changed")
		}
		if err == nil {
			for _, p := range r.Parts {
				if _, err := probe.CheckFile(p.Path); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
