package mend_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

func TestFLV(t *testing.T) {
	const seconds = 20
	whole := probe.Range{First: 1, Last: 30 * seconds}
	// at is the index of the picture with that number.
	at := func(tags []tag, number int) int {
		for i, x := range tags {
			if x.typ == 9 && x.frame() {
				if number--; number == 0 {
					return i
				}
			}
		}
		panic("no such picture")
	}
	later := func(tags []tag, from int, ms int64) []tag {
		for i := from; i < len(tags); i++ {
			tags[i].ts += ms
		}
		return tags
	}
	rubbish := make([]byte, 3000)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range rubbish {
		rubbish[i] = byte(rnd.Uint32())
	}
	into := func(tags []tag, number int, what []byte) []byte {
		i := at(tags, number)
		return slices.Concat(render(tags[:i]), what, render(tags[i:])[13:])
	}
	one := []probe.Range{whole}
	for _, test := range []struct {
		name string
		make func(tags []tag) []byte
		want []probe.Range
		says string
	}{
		{"only the index is missing", func(x []tag) []byte { return render(x) }, one, "made again"},
		{"no script", func(x []tag) []byte { return render(x[1:]) }, one, "made again"},
		{"starts late", func(x []tag) []byte { return render(later(x, 0, 1<<31+5)) }, one, "made again"},
		{"cut off in a tag", func(x []tag) []byte {
			b := render(x[:at(x, 301)])
			return append(b, x[at(x, 301)].bytes()[:50]...)
		}, []probe.Range{{First: 1, Last: 300}}, "cut off"},
		{"cut off in a tag header", func(x []tag) []byte { return append(render(x[:at(x, 301)]), 9, 0) }, []probe.Range{{First: 1, Last: 300}}, "cut off"},
		{"zeros at the end", func(x []tag) []byte { return append(render(x), make([]byte, 1<<20)...) }, one, "no FLV"},
		{"wrong sizes", func(x []tag) []byte {
			b := []byte(flvHead)
			for _, x := range x {
				c := x.bytes()
				b = append(append(b, c[:len(c)-4]...), 0, 0, 0, 0)
			}
			return b
		}, one, "PreviousTagSize"},
		{"no header", func(x []tag) []byte { return render(x)[13:] }, one, "not a recording"},
		{"joined in the middle", func(x []tag) []byte {
			i := at(x, 100)
			return slices.Concat([]byte{1, 2, 3}, render(slices.Concat(x[1:3], x[i:]))[13:])
		}, []probe.Range{{First: 121, Last: whole.Last}}, "before the first picture"},
		{"3 bytes between tags", func(x []tag) []byte { return into(x, 200, []byte{0xff, 0x12, 0x34}) }, one, "no FLV"},
		{"a page between tags", func(x []tag) []byte {
			return into(x, 200, []byte("<html><head><title>502 Bad Gateway</title></head></html>"))
		}, one, "no FLV"},
		{"rubbish between tags", func(x []tag) []byte { return into(x, 200, rubbish) }, one, "no FLV"},
		{"another header", func(x []tag) []byte { return into(x, 200, append([]byte(flvHead), render(x[:3])[13:]...)) }, one, "header"},
		{"the last seconds twice", func(x []tag) []byte {
			i, k := at(x, 301), at(x, 241)
			return slices.Concat(render(x[:i]), render(x[:3]), render(x[k:])[13:])
		}, one, "there twice"},
		{"the clock jumps ahead", func(x []tag) []byte { return render(later(x, at(x, 301), 90_000)) }, one, "jumped ahead"},
		{"the clock jumps to 0", func(x []tag) []byte { i := at(x, 301); return render(later(x, i, -x[i].ts)) }, one, "jumped back"},
		{"the clock wraps", func(x []tag) []byte {
			for i := range x {
				x[i].ts = int64(int32(uint32(x[i].ts - 10_000)))
			}
			return render(x)
		}, one, "wrong"},
		{"frames are missing", func(x []tag) []byte { i, k := at(x, 241), at(x, 361); return render(slices.Delete(x, i, k)) },
			[]probe.Range{{First: 1, Last: 240}, {First: 361, Last: whole.Last}}, "jumped ahead by 4"},
		{"sound goes on", func(x []tag) []byte {
			return render(slices.DeleteFunc(x, func(y tag) bool { return y.typ == 9 && y.frame() && y.ts > 19_000 }))
		}, []probe.Range{{First: 1, Last: 571}}, "sound goes on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := test.make(slices.Clone(live(t, liveroom.Config{}, seconds*time.Second)))
			r := repairFile(t, save(t, "room.flv", b))
			r.whole(t, test.want...)
			if test.says != "wrong" {
				r.says(t, test.says)
			} else if len(r.Wrong) == 0 {
				t.Error("nothing was wrong")
			}
			if len(r.parts) != 1 || r.parts[0].Container != "flv" {
				t.Errorf("%d parts", len(r.parts))
			}
		})
	}
}

// Each picture size becomes a part of its own.
func TestPartsByConfiguration(t *testing.T) {
	tags := live(t, liveroom.Config{Changes: []time.Duration{6 * time.Second, 12 * time.Second}}, 20*time.Second)
	r := repairFile(t, save(t, "room.flv", render(tags)))
	if len(r.parts) != 3 {
		t.Fatalf("%d parts: %+v", len(r.parts), r.Report)
	}
	r.whole(t, probe.Range{First: 1, Last: 600})
	v, _ := r.parts[0].Track(probe.Video)
	w, _ := r.parts[1].Track(probe.Video)
	if v.Width == w.Width {
		t.Errorf("%d and %d pixels", v.Width, w.Width)
	}
	r.says(t, "changes inside")
}

// HEVC does not stay in FLV.
func TestOtherCodecsBecomeMP4(t *testing.T) {
	dir := t.TempDir()
	mp4 := dir + "/hevc.mp4"
	ffmpeg(t, "-f lavfi -i testsrc2=s=320x180:r=30 -t 4 -c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=60:bframes=0 -tag:v hvc1", mp4)
	b := load(t, mp4)
	// The frames of the MP4 as tags of Enhanced FLV; the checker knows where they are.
	at := bytes.Index(b, []byte("hvcC"))
	n := int(binary.BigEndian.Uint32(b[at-4:])) - 8
	tags := []tag{{9, 0, slices.Concat([]byte{0x90}, []byte("hvc1"), b[at+4:at+4+n])}}
	mdat := bytes.Index(b, []byte("mdat"))
	video := 0
	for i := mdat + 4; i+4 < len(b); {
		n := int(binary.BigEndian.Uint32(b[i:]))
		kind := b[i+4] >> 1 & 0x3f
		if n <= 0 || i+4+n > len(b) {
			break
		}
		if kind < 32 {
			key := byte(0xa3)
			if kind >= 16 && kind <= 21 {
				key = 0x93
			}
			tags = append(tags, tag{9, int64(video) * 1000 / 30, slices.Concat([]byte{key}, []byte("hvc1"), b[i:i+4+n])})
			video++
		}
		if i += 4 + n; video == 15 { // the sound comes next
			break
		}
	}
	if video < 5 {
		t.Fatalf("%d pictures were found", video)
	}
	r := repairFile(t, save(t, "hevc.flv", render(tags)))
	if len(r.parts) != 1 || r.parts[0].Container != "mp4" {
		t.Fatalf("%+v", r.Report)
	}
	if v, _ := r.parts[0].Track(probe.Video); v.Codec != "hevc" || v.Frames != video {
		t.Errorf("%+v", v)
	}
}

func TestOtherSoundBecomesMP4(t *testing.T) {
	for codec, args := range map[string]string{"mp3": "-ar 44100 -c:a libmp3lame", "g711a": "-ar 8000 -c:a pcm_alaw"} {
		name := t.TempDir() + "/sound.flv"
		ffmpeg(t, "-f lavfi -i testsrc2=s=320x180:r=30 -f lavfi -i sine=f=440 -t 5 -c:v libx264 -preset ultrafast -g 60 "+args, name)
		r := repairFile(t, name)
		if len(r.parts) != 1 || r.parts[0].Container != "mp4" {
			t.Fatalf("%+v", r.Report)
		}
		if a, _ := r.parts[0].Track(probe.Audio); a.Codec != codec || a.Frames < 100 {
			t.Errorf("%+v", a)
		}
		if v, _ := r.parts[0].Track(probe.Video); v.Frames != 150 {
			t.Errorf("%+v", v)
		}
	}
}

func TestOneTrack(t *testing.T) {
	for _, which := range []string{"-vn", "-an"} {
		name := t.TempDir() + "/one.flv"
		ffmpeg(t, "-f lavfi -i testsrc2=s=320x180:r=30 -f lavfi -i sine=f=440 -t 5 -c:v libx264 -preset ultrafast -g 60 -c:a aac "+which, name)
		b := load(t, name)
		r := repairFile(t, save(t, "one.flv", b[:len(b)-20]))
		if len(r.parts) != 1 || len(r.parts[0].Tracks) != 1 || r.parts[0].Tracks[0].Frames < 149 || r.parts[0].Container != "flv" {
			t.Errorf("%+v", r.Report)
		}
	}
}

// A file may change as often as it likes: there is no other source to go to.
func TestManyChanges(t *testing.T) {
	var changes []time.Duration
	for i := 1; i < 8; i++ {
		changes = append(changes, time.Duration(2*i)*time.Second)
	}
	r := repairFile(t, save(t, "room.flv", render(live(t, liveroom.Config{Changes: changes}, 18*time.Second))))
	r.whole(t, probe.Range{First: 1, Last: 540})
	if len(r.parts) != 8 || len(r.Done) != 1 { // the index
		t.Errorf("%d parts, done %v", len(r.parts), r.Done)
	}
}
