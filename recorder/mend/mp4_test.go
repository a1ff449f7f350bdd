package mend_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/recorder/mend"
)

// clips are made once: H.264 with B frames and AAC, 10 s of two picture sizes, in each container.
var clips = struct {
	sync.Once
	b map[string][]byte
}{b: map[string][]byte{}}

func clip(t *testing.T, name string) []byte {
	t.Helper()
	tool(t, "ffmpeg")
	clips.Do(func() {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		for _, c := range []struct{ name, size, from string }{{"a", "320x180", "0"}, {"b", "426x240", "0"}, {"c", "320x180", "10"}} {
			ffmpeg(t, "-f lavfi -i testsrc2=s="+c.size+":r=30 -f lavfi -i sine=f=440:r=48000 -ss "+c.from+" -t 10 -c:v libx264 -preset ultrafast -g 60 -bf 2 -c:a aac", at(c.name+".mp4"))
			in := "-i " + at(c.name+".mp4") + " -c copy "
			ffmpeg(t, in+"-movflags frag_keyframe+empty_moov+default_base_moof", at(c.name+"frag.mp4"))
			ffmpeg(t, in, at(c.name+".ts"))
		}
		in := "-i " + at("a.mp4") + " -c copy "
		ffmpeg(t, in+"-movflags frag_keyframe+delay_moov", at("aold.mp4")) // offsets from the begin of the file
		ffmpeg(t, in+"-movflags faststart", at("afast.mp4"))
		ffmpeg(t, in+"-movflags frag_keyframe", at("ahead.mp4")) // the first samples are in the moov
		ffmpeg(t, in+"-tag:v avc3 -movflags frag_keyframe+empty_moov+default_base_moof", at("aavc3.mp4"))
		ffmpeg(t, "-f lavfi -i testsrc2=s=320x180:r=30 -f lavfi -i sine=f=440:r=48000 -t 6 -c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=60 -c:a ac3", at("h.ts"))
		for _, n := range []string{"a.mp4", "b.mp4", "afrag.mp4", "bfrag.mp4", "cfrag.mp4", "aold.mp4", "afast.mp4", "ahead.mp4", "aavc3.mp4", "h.ts", "a.ts", "b.ts", "c.ts"} {
			clips.b[n] = load(t, at(n))
		}
	})
	return slices.Clone(clips.b[name])
}

// nth is where the nth box of that kind begins, from 1.
func nth(b []byte, kind string, n int) int {
	at := 0
	for range n {
		i := bytes.Index(b[at:], []byte(kind))
		if i < 0 {
			panic("no such box")
		}
		at += i + 4
	}
	return at - 8
}

func TestMP4(t *testing.T) {
	rubbish := bytes.Repeat([]byte("rubbish!"), 500)
	for _, test := range []struct {
		name  string
		make  func() []byte
		video int // frames that must come out, over all parts
		parts int
		says  string
	}{
		{"ordinary", func() []byte { return clip(t, "a.mp4") }, 300, 1, ""},
		{"fragmented", func() []byte { return clip(t, "afrag.mp4") }, 300, 1, ""},
		{"fragmented, old kind", func() []byte { return clip(t, "aold.mp4") }, 300, 1, ""},
		{"cut off in the data of a fragment", func() []byte { b := clip(t, "afrag.mp4"); return b[:nth(b, "mdat", 3)+20_000] }, 121, 1, "cut off"},
		{"cut off in the head of a fragment", func() []byte { b := clip(t, "afrag.mp4"); return b[:nth(b, "moof", 4)+100] }, 180, 1, "cut off"},
		{"cut off, old kind", func() []byte { b := clip(t, "aold.mp4"); return b[:nth(b, "moof", 4)+100] }, 180, 1, "cut off"},
		{"index in front, cut off", func() []byte { b := clip(t, "afast.mp4"); return b[:len(b)*6/10] }, 150, 1, "cut off"},
		{"rubbish between fragments", func() []byte {
			b := clip(t, "afrag.mp4")
			return slices.Insert(b, nth(b, "moof", 3), rubbish...)
		}, 300, 1, "no box"},
		{"rubbish between fragments, old kind", func() []byte {
			b := clip(t, "aold.mp4")
			return slices.Insert(b, nth(b, "moof", 3), rubbish...)
		}, 300, 1, "no box"},
		{"rubbish in front", func() []byte { return append(slices.Clone(rubbish), clip(t, "afrag.mp4")...) }, 300, 1, "no box"},
		{"rubbish in front of an ordinary one", func() []byte { return append(slices.Clone(rubbish), clip(t, "a.mp4")...) }, 300, 1, "no box"},
		{"a head with samples, fragments behind it", func() []byte { return clip(t, "ahead.mp4") }, 300, 1, ""},
		{"wrong size of mdat", func() []byte {
			b := clip(t, "afrag.mp4")
			binary.BigEndian.PutUint32(b[nth(b, "mdat", 2):], 1<<30)
			return b
		}, 300, 1, "of mdat"},
		{"mdat without a size", func() []byte {
			b := clip(t, "afrag.mp4")
			binary.BigEndian.PutUint32(b[nth(b, "mdat", 2):], 0)
			return b
		}, 300, 1, ""},
		{"a fragment is gone", func() []byte {
			b := clip(t, "afrag.mp4")
			return slices.Delete(b, nth(b, "moof", 3), nth(b, "moof", 4))
		}, 240, 1, "jumped ahead by 1.9"},
		{"the clock jumps ahead", func() []byte {
			b := clip(t, "afrag.mp4")
			for i := 4; i <= 5; i++ {
				at := nth(b, "moof", i)
				for _, scale := range []uint64{15360, 48000} {
					at += bytes.Index(b[at:], []byte("tfdt")) + 4
					binary.BigEndian.PutUint64(b[at+4:], binary.BigEndian.Uint64(b[at+4:])+90*scale)
				}
			}
			return b
		}, 300, 1, "jumped ahead"},
		{"another file behind it", func() []byte { return append(clip(t, "afrag.mp4"), clip(t, "cfrag.mp4")...) }, 600, 1, "another file"},
		{"one with another picture size behind it", func() []byte { return append(clip(t, "afrag.mp4"), clip(t, "bfrag.mp4")...) }, 600, 2, "another file"},
		{"an ordinary one behind an ordinary one", func() []byte { return append(clip(t, "a.mp4"), clip(t, "b.mp4")...) }, 600, 2, "another file"},
		{"parameter sets in the stream", func() []byte { return clip(t, "aavc3.mp4") }, 300, 1, ""},
		{"a closed one of ours without its index", func() []byte {
			r, err := mend.File(context.Background(), save(t, "first.mp4", clip(t, "afrag.mp4")), mend.Options{})
			if err != nil {
				t.Fatal(err)
			}
			b := load(t, r.Parts[0].Path)
			return b[:bytes.LastIndex(b, []byte("moov"))-4]
		}, 300, 1, "made again from the fragments"},
		{"a closed one of ours, cut off", func() []byte {
			r, err := mend.File(context.Background(), save(t, "first.mp4", clip(t, "afrag.mp4")), mend.Options{})
			if err != nil {
				t.Fatal(err)
			}
			b := load(t, r.Parts[0].Path)
			return b[:len(b)/2]
		}, 100, 1, "made again from the fragments"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := repairFile(t, save(t, "live.mp4", test.make()))
			video := 0
			for _, p := range r.parts {
				v, _ := p.Track(probe.Video)
				video += v.Frames
			}
			cut := strings.Contains(test.name, "cut off")
			if video < test.video || video > test.video && !cut || len(r.parts) != test.parts {
				t.Errorf("%d pictures in %d parts, want %d in %d: %+v", video, len(r.parts), test.video, test.parts, r.Report)
			}
			if test.says != "" {
				r.says(t, test.says)
			}
			if r.Sound != (len(r.Wrong) == 0) {
				t.Errorf("%+v", r.Report)
			}
		})
	}
}

// What is sound comes out with the same media, whatever it was woven like.
func TestSoundMP4KeepsItsMedia(t *testing.T) {
	for _, name := range []string{"a.mp4", "afrag.mp4", "aold.mp4", "afast.mp4"} {
		b := clip(t, name)
		before, err := probe.Check(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		r := repairFile(t, save(t, name, b))
		if !r.Sound || len(r.Done)+len(r.Left) > 0 || len(r.parts) != 1 {
			t.Fatalf("%s: %+v", name, r.Report)
		}
		for i, x := range before.Tracks {
			if r.parts[0].Tracks[i].Content != x.Content {
				t.Errorf("%s: another %s", name, x.Kind)
			}
		}
	}
}

func TestWhatCannotBeRepaired(t *testing.T) {
	b := clip(t, "a.mp4")
	for _, test := range []struct {
		name string
		b    []byte
		want error
	}{
		{"ordinary MP4 that was never closed", b[:bytes.LastIndex(b, []byte("moov"))-4], mend.ErrLost},
		{"a page", []byte("<html>404</html>"), mend.ErrForeign},
		{"nothing", nil, mend.ErrForeign},
		{"a head of FLV alone", []byte(flvHead), mend.ErrNothing},
		{"fragments without a head", clip(t, "afrag.mp4")[nth(clip(t, "afrag.mp4"), "moof", 1):], mend.ErrLost},
		{"packets of nothing", bytes.Repeat(append([]byte{0x47, 0x1f, 0xff, 0x10}, make([]byte, 184)...), 20), mend.ErrNothing},
	} {
		name := save(t, "x.bin", test.b)
		r, err := mend.File(context.Background(), name, mend.Options{})
		if !errors.Is(err, test.want) || r.Error == "" {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(name), "*.repaired*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", test.name, left, err)
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	name := save(t, "x.mp4", clip(t, "a.mp4"))
	for _, taken := range []string{"x.repaired.mp4", "x.repaired.2.mp4", "x.repaired.1.mp4.part"} {
		p := filepath.Join(filepath.Dir(name), taken)
		writeFile(t, p, "mine")
		if r, err := mend.File(context.Background(), name, mend.Options{}); err == nil || len(r.Parts) > 0 {
			t.Errorf("%s: %v", taken, err)
		}
		if string(load(t, p)) != "mine" {
			t.Errorf("%s was changed", taken)
		}
		remove(t, p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := mend.File(ctx, name, mend.Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(name), "*.repaired*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Sound that ends long before the pictures is a fact that no repair can change.
func TestSilenceStays(t *testing.T) {
	name := filepath.Join(t.TempDir(), "muted.mp4")
	ffmpeg(t, "-f lavfi -i testsrc2=s=320x180:r=30:d=6 -f lavfi -i sine=f=440:d=2 -c:v libx264 -preset ultrafast -g 60 -c:a aac", name)
	for range 2 {
		r, err := mend.File(context.Background(), name, mend.Options{Dir: t.TempDir()})
		if err != nil || !r.Sound || len(r.Done) > 0 || len(r.Left) != 1 || len(r.Parts) != 1 || r.Parts[0].VideoFrames != 180 {
			t.Fatalf("%v: %+v", err, r)
		}
		name = r.Parts[0].Path
	}
}
