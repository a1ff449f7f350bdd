package flv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/liverec/liverec/pkg/media"
)

// part writes a part as the recorder does: the head, tags, and the head again.
func part(t testing.TB, limit time.Duration, fs []frame) (*Head, []byte) {
	t.Helper()
	m, err := ParseMetadata(scriptBody(60))
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewHead(HeadConfig{Video: videoConfig, Audio: audioConfig, Meta: m, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	b := write(h, fs)
	if int64(len(b)) != h.Size() {
		t.Fatalf("the head counts %d bytes, the file has %d", h.Size(), len(b))
	}
	copy(b, h.Patch())
	return h, b
}

func write(h *Head, fs []frame) []byte {
	b := bytes.Clone(h.Patch())
	for _, f := range fs {
		b = f.append(b)
		c := Classify(f.typ, f.body)
		h.Add(f.typ, int64(f.dts), len(f.body), c.Key)
	}
	return b
}

// script reads the script tag of a file's head.
func script(t testing.TB, b []byte) Metadata {
	t.Helper()
	m, err := ParseMetadata(b[13+11 : 13+11+bodySize(b[13:])])
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func numbers(t testing.TB, m Metadata, name string) (out []float64) {
	t.Helper()
	k, ok := m.Get(keyKeyframes)
	if !ok {
		t.Fatal("no index")
	}
	v, ok := Metadata{k.Props}.Get(name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	for _, e := range v.Elems {
		out = append(out, e.Number)
	}
	return out
}

func TestHead(t *testing.T) {
	fs := frames(1, 500, 50) // 20 s, a key every 2 s
	h, b := part(t, time.Minute, fs)
	m := script(t, b)
	var names []string
	for _, p := range m.Props {
		names = append(names, p.Name)
	}
	if d := cmp.Diff([]string{"duration", "width", "height", "framerate", "videocodecid", "videodatarate", "audiocodecid", "audiodatarate",
		"audiosamplerate", "audiosamplesize", "stereo", "filesize", "datasize", "videosize", "audiosize", "lasttimestamp", "lastkeyframetimestamp",
		"lastkeyframelocation", "hasAudio", "hasVideo", "hasMetadata", "hasKeyframes", "canSeekToEnd", "metadatacreator", "keyframes", "encoder",
		"padding"}, names); d != "" {
		t.Error(d)
	}
	if n := binary.BigEndian.Uint32(b[13+11+3+len(onMetaData)+1:]); int(n) != len(names) {
		t.Errorf("the array counts %d properties of %d", n, len(names))
	}
	var lastKey, videoSize, audioSize, lastSound float64
	at := float64(h.Len())
	for _, f := range fs {
		if f.typ == TagVideo {
			videoSize += float64(len(f.body) + 11)
			if f.body[0] == 0x17 {
				lastKey = at
			}
		} else {
			audioSize += float64(len(f.body) + 11)
			lastSound = float64(f.dts)
		}
		at += float64(len(f.body) + 15)
	}
	end := max(20, lastSound/1000+1024.0/44100)
	for name, want := range map[string]float64{"duration": end, "width": 320, "height": 180, "framerate": 25, "videocodecid": 7, "audiocodecid": 10,
		"audiosamplerate": 44100, "filesize": float64(len(b)), "datasize": videoSize + audioSize, "videosize": videoSize, "audiosize": audioSize,
		"lasttimestamp": max(19.96, lastSound/1000), "lastkeyframetimestamp": 18, "lastkeyframelocation": lastKey,
		"videodatarate": math.Round(videoSize * 8 / 1000 / end)} {
		if got, ok := m.Number(name); !ok || math.Abs(got-want) > 1e-4 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if e, _ := m.Get("encoder"); e.Text != "obs" {
		t.Errorf("the server's own key is %+v", e)
	}
	if h.Duration() != 20*time.Second || h.VideoStep() != 40*time.Millisecond {
		t.Errorf("duration %v, step %v", h.Duration(), h.VideoStep())
	}
	if v, a := h.Frames(); v != 500 || int(v+a) != len(fs) {
		t.Errorf("%d and %d frames", v, a)
	}
	times, offsets := numbers(t, m, "times"), numbers(t, m, "filepositions")
	if d := cmp.Diff([]float64{0, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18}, times); d != "" {
		t.Error(d)
	}
	for i, o := range offsets {
		at := int(o)
		if b[at] != TagVideo || b[at+11] != 0x17 || float64(timestamp(b[at:]))/1000 != times[i] {
			t.Errorf("entry %d does not point at a key frame", i)
		}
		if isHeader := b[at+12] == 0; isHeader != (i == 0) {
			t.Errorf("entry %d: sequence header %v", i, isHeader)
		}
	}
	if spare := len(numbers(t, m, "spacer")); spare != 2*(int(math.Ceil(60000/1900.0))+2-11) {
		t.Errorf("%d numbers to spare", spare)
	}
	if keys, _ := m.Get(keyKeyframes); keys.Props[0].Name != "times" || keys.Props[1].Name != "filepositions" || keys.Props[2].Name != "spacer" {
		t.Errorf("order of the index: %v", keys.Props)
	}
}

func TestHeadTracks(t *testing.T) {
	for name, cfg := range map[string]HeadConfig{"video": {Video: videoConfig}, "audio": {Audio: audioConfig}} {
		h, err := NewHead(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var fs []frame
		for _, f := range frames(1, 100, 50) {
			if f.typ == TagVideo == (cfg.Video != nil) {
				fs = append(fs, f)
			}
		}
		b := write(h, fs)
		copy(b, h.Patch())
		if b[4] != map[string]byte{"video": 1, "audio": 4}[name] {
			t.Errorf("%s: flags %x", name, b[4])
		}
		m := script(t, b)
		if _, ok := m.Get("width"); ok != (name == "video") {
			t.Errorf("%s: width %v", name, ok)
		}
		if _, ok := m.Get("stereo"); ok != (name == "audio") {
			t.Errorf("%s: stereo %v", name, ok)
		}
		if d := h.Duration(); (d - 4*time.Second).Abs() > 30*time.Millisecond {
			t.Errorf("%s: %v", name, d)
		}
		s, err := Scan(bytes.NewReader(b), int64(len(b)), ScanConfig{})
		if err != nil || !bytes.Equal(s.Head.Patch(), h.Patch()) {
			t.Errorf("%s: found another head: %v", name, err)
		}
	}
	for name, cfg := range map[string]HeadConfig{"none": {}, "bad video": {Video: videoConfig[:9]}, "bad audio": {Audio: audioConfig[:2]}} {
		if _, err := NewHead(cfg); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewHead(HeadConfig{Video: videoConfig, ScriptSize: 200}); err == nil {
		t.Error("a script of 200 bytes has room for an index")
	}
}

func TestHeadThinsItsIndex(t *testing.T) {
	h, err := NewHead(HeadConfig{Video: videoConfig, Limit: 20 * time.Second}) // 13 entries
	if err != nil {
		t.Fatal(err)
	}
	size := len(h.Patch())
	at := map[int64]int64{}
	last := 1
	for i := range int64(1000) {
		at[i*500] = h.Size()
		h.Add(TagVideo, i*500, 100, true)
		b := h.Patch()
		if len(b) != size {
			t.Fatalf("the head has %d bytes and had %d", len(b), size)
		}
		m := script(t, b)
		times, offsets := numbers(t, m, "times"), numbers(t, m, "filepositions")
		if len(times) > 13 || len(times) != len(offsets) || times[0] != 0 || times[1] != 0 || int64(offsets[1]) != h.Len() {
			t.Fatalf("%d times, %d offsets, begin %v", len(times), len(offsets), times[:2])
		}
		for j := 2; j < len(times); j++ {
			if times[j]-times[j-1] < 1.9 || int64(offsets[j]) != at[int64(times[j]*1000)] {
				t.Fatalf("entry %d: %v after %v at %v", j, times[j], times[j-1], offsets[j])
			}
		}
		if n := len(times); n < last && n < 7 {
			t.Fatalf("%d entries are left of %d", n, last)
		}
		last = len(times)
	}
}

func TestHeadOfAnySize(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(900, 400_000).Draw(rt, "size")
		m, _ := ParseMetadata(scriptBody(1))
		h, err := NewHead(HeadConfig{Video: videoConfig, Audio: audioConfig, Meta: m, ScriptSize: size})
		if err != nil {
			rt.Fatal(err)
		}
		fs := frames(1, rapid.IntRange(0, 100).Draw(rt, "frames"), rapid.IntRange(1, 60).Draw(rt, "gop"))
		for _, f := range fs {
			h.Add(f.typ, int64(f.dts)*50, len(f.body), f.body[0] == 0x17)
		}
		b := h.Patch()
		if int64(len(b)) != h.Len() || bodySize(b[13:]) != size || h.ScriptSize() != size {
			rt.Fatalf("%d bytes, script of %d, want %d", len(b), bodySize(b[13:]), size)
		}
		script(t, b)
	})
}

func TestHeadKeepsForeignKeysThatFit(t *testing.T) {
	m := Metadata{Props: []Property{
		{"width", Value{Type: Number, Number: 9999}},
		{"duration", Value{Type: Number, Number: 120}},
		{"keyframes", Value{Type: Object}},
		{"Server", Value{Type: String, Text: "CDN"}},
		{"huge", Value{Type: String, Text: string(make([]byte, 2000))}},
		{"ref", Value{Type: Reference}},
		{"Server", Value{Type: String, Text: "twice"}},
		{"nested", Value{Type: Object, Props: []Property{{"a", Value{Type: Boolean, Number: 1}}}}},
		{"", Value{Type: Null}},
	}}
	h, err := NewHead(HeadConfig{Video: videoConfig, Meta: m, Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	got := script(t, h.Patch())
	n := len(got.Props)
	if d := cmp.Diff([]Property{m.Props[3], m.Props[7]}, got.Props[n-3:n-1]); d != "" {
		t.Error(d)
	}
	if w, _ := got.Number("width"); w != 320 {
		t.Errorf("width %v", w)
	}
	if d, _ := got.Number("duration"); d != 0 {
		t.Errorf("duration %v", d)
	}
}

func TestHeadFrameRate(t *testing.T) {
	for name, tc := range map[string]struct {
		steps []int64
		want  float64
	}{
		"30/s in whole ms": {[]int64{33, 33, 34}, 30},
		"60/s in whole ms": {[]int64{17, 17, 16}, 60},
		"with a pause":     {[]int64{40, 40, 40, 40, 40, 40, 900}, 25},
		"slow":             {[]int64{1000}, 1},
		"none":             {nil, 25}, // then the SPS counts
	} {
		h, err := NewHead(HeadConfig{Video: videoConfig})
		if err != nil {
			t.Fatal(err)
		}
		dts := int64(0)
		for range 30 {
			for _, s := range tc.steps {
				h.Add(TagVideo, dts, 10, false)
				dts += s
			}
		}
		if got, _ := script(t, h.Patch()).Number("framerate"); math.Abs(got-tc.want) > tc.want/1000 {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestAppendTag(t *testing.T) {
	for _, dts := range []uint32{0, 1, 0xFFFFFF, 0x1000000, 0x81234567} {
		body := []byte("body")
		b := AppendTag([]byte("x"), TagVideo, dts, body)[1:]
		want := []byte{9, 0, 0, 4, byte(dts >> 16), byte(dts >> 8), byte(dts), byte(dts >> 24), 0, 0, 0, 'b', 'o', 'd', 'y', 0, 0, 0, 15}
		if !bytes.Equal(b, want) {
			t.Errorf("% x, want % x", b, want)
		}
		parts := AppendTagTrailer(append(AppendTagHeader(nil, TagVideo, dts, len(body)), body...), len(body))
		if !bytes.Equal(parts, want) {
			t.Errorf("in pieces: % x", parts)
		}
		if timestamp(want) != int64(int32(dts)) {
			t.Errorf("read as %d", timestamp(want))
		}
	}
	if got := AppendEndMark([]byte{1}, 7)[1:]; !bytes.Equal(got, AppendTag(nil, TagVideo, 7, []byte{0x17, 2, 0, 0, 0})) {
		t.Errorf("end mark % x", got)
	}
	if got := AppendFileHeader([]byte{1}, true, false); !bytes.Equal(got, []byte("\x01FLV\x01\x04\x00\x00\x00\x09\x00\x00\x00\x00")) {
		t.Errorf("file header % x", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a body above 16 MiB was accepted")
		}
	}()
	AppendTagHeader(nil, TagVideo, 0, media.MaxBody+1)
}
