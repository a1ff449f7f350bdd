package mend_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/liverec/liverec/pkg/media/probe"
)

func TestTS(t *testing.T) {
	const packet = 188
	for _, test := range []struct {
		name  string
		make  func() []byte
		least int // pictures that must come out
		most  int
		parts int
		says  string
	}{
		{"sound", func() []byte { return clip(t, "a.ts") }, 300, 300, 1, ""},
		{"cut off in a packet", func() []byte { b := clip(t, "a.ts"); return b[:len(b)/2+77] }, 140, 150, 1, "cut off"},
		{"joined in the middle", func() []byte { b := clip(t, "a.ts"); return b[len(b)/4+50:] }, 180, 239, 1, "not a recording"},
		{"rubbish between packets", func() []byte {
			b := clip(t, "a.ts")
			return slices.Insert(b, 2000*packet, bytes.Repeat([]byte{1, 2, 3, 4, 5}, 777)...)
		}, 298, 300, 1, "no packets"},
		{"lost packets", func() []byte { b := clip(t, "a.ts"); return slices.Delete(b, 2000*packet, 2003*packet) }, 296, 299, 1, "missing"},
		{"another file behind it", func() []byte { return append(clip(t, "a.ts"), clip(t, "c.ts")...) }, 599, 600, 1, "jumped back"},
		{"one with another picture size behind it", func() []byte { return append(clip(t, "a.ts"), clip(t, "b.ts")...) }, 599, 600, 2, "changes inside"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := repairFile(t, save(t, "live.ts", test.make()))
			video := 0
			for _, p := range r.parts {
				v, _ := p.Track(probe.Video)
				video += v.Frames
			}
			if video < test.least || video > test.most || len(r.parts) != test.parts {
				t.Errorf("%d pictures in %d parts: %+v", video, len(r.parts), r.Report)
			}
			if test.says != "" {
				r.says(t, test.says)
			}
		})
	}
}

// What is sound comes out with the same media.
func TestSoundTSKeepsItsMedia(t *testing.T) {
	b := clip(t, "a.ts")
	before, err := probe.Check(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	r := repairFile(t, save(t, "a.ts", b))
	if !r.Sound || len(r.Done)+len(r.Left) > 0 || len(r.parts) != 1 {
		t.Fatalf("%+v", r.Report)
	}
	for i, x := range before.Tracks {
		if r.parts[0].Tracks[i].Media != x.Media {
			t.Errorf("another %s", x.Kind)
		}
		if r.parts[0].Tracks[i].Content != x.Content {
			t.Errorf("another content of %s", x.Kind)
		}
	}
}
