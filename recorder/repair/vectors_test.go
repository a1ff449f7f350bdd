package repair_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder/repair"
)

// later moves tags in time.
func later(ts []tagged, ms int64) []tagged {
	ts = slices.Clone(ts)
	for i := range ts {
		ts[i].at += ms
	}
	return ts
}

// C8: start codes where lengths belong, with a record in front or without any.
func TestStartCodes(t *testing.T) {
	for name, c := range map[string]struct {
		clip
		w    wrap
		lead int
	}{
		"H.264":             {pictures(t, media.AVC, "closed.h264", true), old(7), 5},
		"H.264 as avc1":     {pictures(t, media.AVC, "closed.h264", true), enhanced("avc1", true, false), 8},
		"HEVC id 12":        {pictures(t, media.HEVC, "hevc.h265", true), old(12), 5},
		"HEVC as hvc1":      {pictures(t, media.HEVC, "hevc.h265", true), enhanced("hvc1", true, true), 5},
		"HEVC of open GOPs": {pictures(t, media.HEVC, "hevc_open.h265", true), old(12), 5},
	} {
		// What must come out has neither delimiters nor the sets that are in the record.
		want := slices.Clone(c.units)
		plain := slices.Clone(c.units)
		for i := range want {
			var kept []byte
			for at := 0; at < len(want[i].data); {
				n := int(binary.BigEndian.Uint32(want[i].data[at:]))
				nal := want[i].data[at+4 : at+4+n]
				if typ := nalType(c.codec, nal); !isSet(c.codec, typ) && !(c.codec == media.AVC && typ == 9) && !(c.codec == media.HEVC && typ == 35) {
					kept = append(kept, want[i].data[at:at+4+n]...)
				}
				at += 4 + n
			}
			want[i].data = kept
			plain[i].data = startCoded(t, c.units[i].data)
		}
		sets, err := codec.ReadSets(c.codec, c.record)
		if err != nil {
			t.Fatal(err)
		}
		var header []byte
		for _, s := range slices.Concat(sets.VPS, sets.SPS, sets.PPS) {
			header = append(append(header, 0, 0, 0, 1), s...)
		}
		coded := c.clip
		coded.units = plain
		for how, start := range map[string][]byte{"record in front": c.record, "start codes in front": header, "nothing in front": nil} {
			t.Run(name+", "+how, func(t *testing.T) {
				coded := coded
				coded.start = start
				ts := tags(coded, c.w)
				if start == nil {
					ts = ts[1:]
				}
				all := mix(ts, tags(aac(86), oldSound(0xAF)))
				g := newRig(t)
				g.r.Connect(g.now, "")
				g.play(packets(t, all, 0))
				g.disconnect()
				g.samples(c.clip, want)
				g.want(0, 0, 0)
				if len(g.s.configs) != 1 || len(g.errs) > 0 {
					t.Fatalf("%d parts, %v", len(g.s.configs), g.errs)
				}
				p := g.s.configs[0].Video
				if i, err := codec.Parse(c.codec, p.Payload()); err != nil || i.NALLength != 4 || i.Width != 128 || i.Height != 72 {
					t.Errorf("%+v, %v", i, err)
				}
				if g.r.Stats().StartCodes != 50 || int(g.s.items[0].packet.Lead) != c.lead {
					t.Errorf("%+v, lead %d", g.r.Stats(), g.s.items[0].packet.Lead)
				}
				g.again()

				// The same over a restart in the middle: the copies are known.
				h := newRig(t)
				h.r.Connect(h.now, "")
				cut := slices.IndexFunc(all, func(x tagged) bool { return x.at >= 1400 })
				back := slices.IndexFunc(all, func(x tagged) bool { return x.at >= 1000 })
				h.play(packets(t, all[:cut], 0))
				h.kill(h.note())
				h.r.Connect(h.now, "liverec was not running")
				h.play(packets(t, all[back:], 0))
				h.disconnect()
				h.samples(c.clip, want)
				h.want(0, 0, 1)
			})
		}
	}
}

// C12: the picture changes its size, and no header says so.
func TestSizeChangesInBand(t *testing.T) {
	big := videoA // 320×180
	small := pictures(t, media.AVC, "closed.h264", true)
	hevc := pictures(t, media.HEVC, "hevc.h265", true)
	hevcBig := hevc
	hevcBig.record, hevcBig.units = widen(t, hevc)
	av := av1(t)
	first := func(c clip, w wrap) []tagged { return tags(c, w) }
	for name, c := range map[string]struct {
		ts      []tagged
		w, h    int
		codec   media.Codec
		records bool
	}{
		"H.264":       {mix(append([]tagged{{9, 0, big}}, film320(2000)...), later(first(small, old(7))[1:], 2000)), 128, 72, media.AVC, true},
		"HEVC id 12":  {mix(first(hevcBig, old(12)), later(first(hevc, old(12))[1:], 2000)), 128, 72, media.HEVC, true},
		"hvc1":        {mix(first(hevcBig, enhanced("hvc1", true, false)), later(first(hevc, enhanced("hvc1", true, false))[1:], 2000)), 128, 72, media.HEVC, true},
		"av01":        {mix(first(withAV1Size(t, av), enhanced("av01", false, false)), later(first(av, enhanced("av01", false, false))[1:], 2000)), 128, 72, media.AV1, true},
		"vp09":        {mix(first(vp9(t), enhanced("vp09", false, false)), later(first(vp9Wide(t), enhanced("vp09", false, false))[1:], 2000)), 0, 0, media.VP9, true},
		"before all":  {mix([]tagged{{9, 0, big}}, later(first(small, old(7))[1:], 0), later(first(small, old(7))[1:], 2000)), 128, 72, media.AVC, false},
		"H.264 again": {mix(first(small, old(7)), later(first(small, old(7))[1:], 2000)), 0, 0, media.AVC, false},
		"HEVC again":  {mix(first(hevc, old(12)), later(first(hevc, old(12))[1:], 2000)), 0, 0, media.HEVC, false},
		"AV1 again":   {mix(first(av, old(13)), later(first(av, old(13))[1:], 2000)), 0, 0, media.AV1, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.r.Connect(g.now, "")
			g.play(packets(t, append(c.ts, tagged{8, 0, audioA}), 0))
			g.disconnect()
			want := 1
			if c.records {
				want = 2
			}
			if len(g.s.configs) != want {
				t.Fatalf("%d parts, want %d", len(g.s.configs), want)
			}
			if n := len(g.s.kind(media.Video)); n != 100 && n != 60 {
				t.Errorf("%d frames", n)
			}
			if !c.records {
				if i, err := codec.Parse(c.codec, g.s.configs[0].Video.Payload()); err != nil || c.w > 0 && i.Width != c.w {
					t.Errorf("the only part is %d×%d, %v", i.Width, i.Height, err)
				}
				return
			}
			if c.codec == media.VP9 {
				if a, b := g.s.configs[0], g.s.configs[1]; a.Width != 128 || a.Height != 72 || b.Width != 192 || b.Height != 72 {
					t.Errorf("%d×%d, then %d×%d", a.Width, a.Height, b.Width, b.Height)
				}
				if f := g.note().VideoForm; f.Width != 192 || f.Height != 72 {
					t.Errorf("%+v", f)
				}
				return
			}
			i, err := codec.Parse(c.codec, g.s.configs[1].Video.Payload())
			if err != nil || i.Width != c.w || i.Height != c.h {
				t.Errorf("new part of %d×%d, %v", i.Width, i.Height, err)
			}
			k := slices.IndexFunc(g.s.items, func(it got) bool { return it.part == 2 })
			if it := g.s.items[k]; !it.key || it.out != 2000 {
				t.Errorf("the new part begins with %+v", it.packet)
			}
			g.again()
		})
	}
}

// vp9Wide says in its key frames that it is 192 wide.
func vp9Wide(t testing.TB) clip {
	c := vp9(t)
	c.units = slices.Clone(c.units)
	for i := range c.units {
		if !c.units[i].key {
			continue
		}
		d := slices.Clone(c.units[i].data)
		// Behind 8 bits of marker and flags, 24 of sync, 4 of colour: 16 bits of width - 1.
		d[4] = d[4]&0xF0 | byte(191>>12)
		d[5] = byte(191 >> 4)
		d[6] = d[6]&0x0F | byte(191&15)<<4
		c.units[i].data = d
	}
	return c
}

// film320 is video to the header videoA, with its sets in each key frame.
func film320(ms int64) (out []tagged) {
	c, err := flv.ParseVideoConfig(videoA)
	if err != nil {
		panic(err)
	}
	var sets []byte
	for _, n := range [][]byte{c.SPS[0], c.PPS[0]} {
		sets = append(binary.BigEndian.AppendUint32(sets, uint32(len(n))), n...)
	}
	for _, f := range only(film(71, ms, false), media.Video) {
		b := f.body
		if f.key {
			b = slices.Concat(b[:5], sets, b[5:])
		}
		out = append(out, tagged{9, f.at, b})
	}
	return out
}

// widen makes another size of an HEVC clip: only its parameter sets say it.
func widen(t testing.TB, c clip) (record []byte, units []unit) {
	t.Helper()
	sets, err := codec.ReadSets(c.codec, c.record)
	if err != nil {
		t.Fatal(err)
	}
	i, err := codec.Parse(c.codec, c.record)
	if err != nil {
		t.Fatal(err)
	}
	// The width is an Exp-Golomb number: one bit of it makes another.
	for bit := range len(sets.SPS[0]) * 8 {
		sps := slices.Clone(sets.SPS[0])
		sps[bit/8] ^= 0x80 >> (bit % 8)
		record, err := codec.BuildHVCC(sets.VPS, [][]byte{sps}, sets.PPS)
		if err != nil {
			continue
		}
		j, err := codec.Parse(c.codec, record)
		if err != nil || j.Width == i.Width || j.Height != i.Height {
			continue
		}
		for _, u := range c.units {
			u.data = bytes.Replace(u.data, sets.SPS[0], sps, 1)
			units = append(units, u)
		}
		return record, units
	}
	t.Fatal("no other width")
	return nil, nil
}

// withAV1Size makes another size of an AV1 clip.
func withAV1Size(t testing.TB, c clip) clip {
	t.Helper()
	i, err := codec.Parse(media.AV1, c.record)
	if err != nil {
		t.Fatal(err)
	}
	seq := c.record[4:]
	for bit := range len(seq) * 8 {
		other := slices.Clone(seq)
		other[bit/8] ^= 0x80 >> (bit % 8)
		record, ok := codec.BuildAV1C(other)
		if !ok {
			continue
		}
		j, err := codec.Parse(media.AV1, record)
		if err != nil || j.Width == i.Width || j.Height != i.Height || j.Profile != i.Profile {
			continue
		}
		out := clip{codec: c.codec, record: record}
		for _, u := range c.units {
			u.data = bytes.Replace(u.data, seq, other, 1)
			out.units = append(out.units, u)
		}
		return out
	}
	t.Fatal("no other size")
	return c
}

// C15: a key flag alone starts nothing where real key frames come.
func TestFalseKeys(t *testing.T) {
	open := pictures(t, media.AVC, "closed.h264", false)
	flagged := func(c clip, every int) clip {
		c.units = slices.Clone(c.units)
		for i := range c.units {
			c.units[i].flag = i%every == 0
		}
		return c
	}
	keys := func(g *rig) (out []int64) {
		for _, it := range g.s.kind(media.Video) {
			if it.key {
				out = append(out, it.out)
			}
		}
		return out
	}
	play := func(t *testing.T, ts []tagged) *rig {
		g := newRig(t)
		g.r.Connect(g.now, "")
		g.play(packets(t, mix(ts, tags(aac(86), oldSound(0xAF))), 0))
		g.disconnect()
		return g
	}
	t.Run("between real ones", func(t *testing.T) {
		g := play(t, tags(flagged(open, 5), old(7)))
		if k := keys(g); !slices.Equal(k, []int64{0, 1000}) {
			t.Errorf("keys at %v", k)
		}
		if n := len(g.s.kind(media.Video)); n != 50 {
			t.Errorf("%d frames", n)
		}
	})
	t.Run("before the first real one", func(t *testing.T) {
		c := flagged(open, 25)
		c.units[13].flag = true
		ts := tags(c, old(7))
		g := play(t, slices.Concat(ts[:1], ts[10:])) // from frame 9 on
		if k := keys(g); !slices.Equal(k, []int64{0}) || g.s.kind(media.Video)[0].packet.DTS != 1000 {
			t.Errorf("keys at %v, first frame of %d", k, g.s.kind(media.Video)[0].packet.DTS)
		}
		if a := g.r.Account(); a.PreRoll == 0 {
			t.Errorf("%+v", a)
		}
	})
	t.Run("no real one at all", func(t *testing.T) {
		var ts []tagged
		c := flagged(open, 10)
		c.units = slices.DeleteFunc(c.units, func(u unit) bool { return u.key })
		for i := range 40 {
			ts = append(ts, later(tags(c, old(7)), int64(i)*2000)...)
		}
		g := play(t, ts)
		k := keys(g)
		if len(k) < 3 || k[0] != 0 {
			t.Fatalf("keys at %v", k)
		}
		if first := g.s.kind(media.Video)[0].packet.DTS; first > 800 {
			t.Errorf("began only at %d", first)
		}
		for i := 1; i < len(k); i++ {
			if d := k[i] - k[i-1]; d < 20_000 || d > 32_000 {
				t.Errorf("%d ms to the next", d)
			}
		}
	})
	t.Run("real ones that nothing flags", func(t *testing.T) {
		var ts []tagged
		c := flagged(open, 1000)
		c.units[0].flag = false
		for i := range 20 {
			ts = append(ts, later(tags(c, old(7)), int64(i)*2000)...)
		}
		g := play(t, ts)
		if len(keys(g)) == 0 {
			t.Error("nothing was written")
		}
	})
	t.Run("a loop of flagged frames is noticed", func(t *testing.T) {
		c := flagged(open, 25)
		c.units = slices.Clone(c.units)
		ts := tags(c, old(7))
		g := newRig(t)
		g.r.Connect(g.now, "")
		g.play(packets(t, ts, 0))
		for range 20 {
			g.play(packets(t, ts[26:], 0))
		}
		if len(g.errs) == 0 || !errors.Is(g.errs[0], repair.ErrLoop) {
			t.Errorf("%v", g.errs)
		}
		g.disconnect()
		g.samples(open, open.units)
	})
}

// C16: filler is counted, and left out where that is asked for.
func TestFiller(t *testing.T) {
	for name, c := range map[string]struct {
		clip
		w      wrap
		filler []byte
	}{
		"H.264": {pictures(t, media.AVC, "closed.h264", false), old(7), []byte{0x0C, 0xFF, 0xFF, 0xFF, 0x80}},
		"HEVC":  {pictures(t, media.HEVC, "hevc.h265", false), enhanced("hvc1", true, false), []byte{38 << 1, 1, 0xFF, 0xFF, 0x80}},
	} {
		full := c.clip
		full.units = slices.Clone(full.units)
		for i := range full.units {
			u := &full.units[i]
			u.data = append(binary.BigEndian.AppendUint32(slices.Clone(u.data), uint32(len(c.filler))), c.filler...)
		}
		all := mix(tags(full, c.w), tags(aac(86), oldSound(0xAF)))
		for _, drop := range []bool{false, true} {
			g := newRig(t)
			g.r = repair.New(repair.Config{DropFiller: drop}, g.s)
			g.r.Connect(g.now, "")
			g.play(packets(t, all[:90], 0))
			g.disconnect()
			g.r.Connect(g.now, "cut")
			g.play(packets(t, append(slices.Clone(all[:2]), all[70:]...), 0))
			g.disconnect()
			want := full.units
			if drop {
				want = c.units
			}
			g.samples(c.clip, want)
			if n := g.r.Stats().FillerBytes; n < 50*9 {
				t.Errorf("%s: %d bytes counted", name, n)
			}
			g.again()
		}
	}
}

// S14 in every wrapping that has a composition time.
func TestAbsurdCompositionTimeIsTakenOut(t *testing.T) {
	for name, w := range map[string]wrap{"id 12": old(12), "hvc1": enhanced("hvc1", true, false), "multitrack": tracks(true, 0, 2, enhanced("hvc1", true, false)), "ModEx": modEx(enhanced("hvc1", true, false))} {
		hevc := pictures(t, media.HEVC, "hevc.h265", false)
		ts := tags(hevc, w)
		ts[7].body = w(false, hevc.units[6], -4_000_000)
		g := newRig(t)
		g.r.Connect(g.now, "")
		g.play(packets(t, mix(ts, tags(aac(86), oldSound(0xAF))), 0))
		g.disconnect()
		g.samples(hevc, hevc.units)
		p := g.s.kind(media.Video)[6].packet
		if p.CTS != 0 || g.r.Stats().BadCTS != 1 || flv.Classify(flv.TagVideo, p.Body).CTS != 0 {
			t.Errorf("%s: %+v, %+v", name, p.CTS, g.r.Stats())
		}
		g.again()
	}
}

// F8: an empty sound tag is silence and no fault.
func TestSilence(t *testing.T) {
	hevc, op := pictures(t, media.HEVC, "hevc.h265", false), opus(t)
	ts := mix(tags(hevc, enhanced("hvc1", true, false)), tags(op, newSound("Opus", true)))
	ts = slices.Insert(ts, 40, tagged{8, ts[40].at, nil}, tagged{8, ts[40].at, []byte("\x91Opus")})
	g := newRig(t)
	g.r.Connect(g.now, "")
	g.play(packets(t, ts, 0))
	g.disconnect()
	g.samples(op, op.units)
	g.want(0, 0, 0)
	if a := g.r.Account(); a.Invalid != 2 || len(g.errs) > 0 {
		t.Errorf("%+v, %v", a, g.errs)
	}
}

// C18 for all that has a header: one that cannot be used changes nothing.
func TestBrokenHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		clip
		w wrap
	}{
		"hvc1": {pictures(t, media.HEVC, "hevc.h265", false), enhanced("hvc1", true, false)},
		"av01": {av1(t), enhanced("av01", false, false)},
		"vp09": {vp9(t), enhanced("vp09", false, false)},
		"Opus": {opus(t), newSound("Opus", true)},
		"mp4a": {aac(86), newSound("mp4a", true)},
	} {
		ts := tags(c.clip, c.w)
		for i, bad := range [][]byte{{1}, {0, 0, 0, 0, 0}, append(slices.Clone(c.record), make([]byte, 70_000)...), bytes.Repeat([]byte{0xFF}, 40), c.w(true, unit{data: c.record}, 0)[5:9]} {
			ts = slices.Insert(ts, 10+5*i, tagged{ts[0].typ, ts[10+5*i].at, c.w(true, unit{data: bad}, 0)})
		}
		g := newRig(t)
		g.r.Connect(g.now, "")
		g.play(packets(t, ts, 0))
		g.disconnect()
		g.samples(c.clip, c.units)
		if len(g.s.configs) != 1 || len(g.errs) > 0 {
			t.Errorf("%s: %d parts, %v", name, len(g.s.configs), g.errs)
		}
	}
}

// C7 for headers of every codec.
func TestFlappingOfOtherCodecs(t *testing.T) {
	avc, hevc := pictures(t, media.AVC, "closed.h264", false), pictures(t, media.HEVC, "hevc.h265", false)
	var ts []tagged
	for i := range int64(8) {
		ts = append(ts, later(tags(avc, old(7)), i*4000)...)
		ts = append(ts, later(tags(hevc, old(12)), i*4000+2000)...)
	}
	g := newRig(t)
	g.r.Connect(g.now, "")
	g.play(packets(t, ts, 0))
	g.disconnect()
	if len(g.s.configs) > 4 || len(g.errs) == 0 || !errors.Is(g.errs[0], repair.ErrFlapping) {
		t.Errorf("%d parts, %v", len(g.s.configs), g.errs)
	}
}

// A broken frame of sound does not pass for another configuration; another rate is one.
func TestSoundThatDescribesItself(t *testing.T) {
	mp3 := sound(t, media.MP3)
	mono := mp3
	mono.units = slices.Clone(mp3.units)
	for i := range mono.units {
		d := slices.Clone(mono.units[i].data)
		d[2] = d[2]&^0x0C | 0x08 // 32 kHz
		mono.units[i].data = d
	}
	one := slices.Clone(mp3.units)
	one[20] = mono.units[20]
	broken := mp3
	broken.units = one
	avc := pictures(t, media.AVC, "closed.h264", false)
	for name, c := range map[string]struct {
		ts    []tagged
		parts int
		sound int
	}{
		"one frame": {mix(tags(avc, old(7)), tags(broken, oldSound(0x2F))), 1, len(one)},
		"for good": {mix(tags(avc, old(7)), later(tags(avc, old(7)), 2000), tags(mp3, oldSound(0x2F)), later(tags(mono, oldSound(0x2F)), 2040)),
			2, -1},
	} {
		g := newRig(t)
		g.r.Connect(g.now, "")
		g.play(packets(t, c.ts, 0))
		g.disconnect()
		if len(g.s.configs) != c.parts {
			t.Errorf("%s: %d parts", name, len(g.s.configs))
		}
		if n := len(g.s.kind(media.Audio)); c.sound >= 0 && n != c.sound {
			t.Errorf("%s: %d frames of sound", name, n)
		}
	}
}

// The sums of a session that goes into MP4 from the start are of payloads, H.264 or not.
func TestSumsOfSamples(t *testing.T) {
	avc := pictures(t, media.AVC, "closed.h264", false)
	all := mix(tags(avc, old(7)), tags(aac(86), oldSound(0xAF)))
	g := newRig(t)
	g.r, g.s.mp4 = repair.New(repair.Config{Samples: true}, g.s), true
	g.r.Connect(g.now, "")
	g.play(packets(t, all[:70], 0))
	g.disconnect()
	g.now = g.now.Add(100 * time.Millisecond)
	g.r.Connect(g.now, "cut")
	g.play(packets(t, append(slices.Clone(all[:2]), later(all[:0], 0)...), 0))
	g.play(packets(t, all[70:], 0))
	g.disconnect()
	if len(g.s.items) != 136 {
		t.Errorf("%d items", len(g.s.items))
	}
	for i, it := range g.s.items {
		typ := byte(flv.TagVideo)
		if it.kind == media.Audio {
			typ = flv.TagAudio
		}
		if it.sum != flv.Sum(typ, it.data) {
			t.Fatalf("item %d", i)
		}
	}
}

// Temporal delimiters of AV1 are left out: a sample of MP4 has none.
func TestTemporalDelimiters(t *testing.T) {
	av := av1(t)
	with := av
	with.units = slices.Clone(av.units)
	for i := range with.units {
		with.units[i].data = append([]byte{0x12, 0}, with.units[i].data...)
	}
	with.units = slices.Insert(with.units, 7, unit{at: 265, data: []byte{0x12, 0}})
	g := newRig(t)
	g.r.Connect(g.now, "")
	g.play(packets(t, mix(tags(with, enhanced("av01", false, false)), tags(aac(86), oldSound(0xAF))), 0))
	g.disconnect()
	g.samples(av, av.units)
	if a := g.r.Account(); a.Invalid != 1 {
		t.Errorf("%+v", a)
	}
	g.again()
}

// C6: no header after a reconnect. What is known holds, unless the frames say otherwise.
func TestHeaderMissingAfterAReconnect(t *testing.T) {
	small, hevc := pictures(t, media.AVC, "closed.h264", true), pictures(t, media.HEVC, "hevc.h265", true)
	bare := func(c clip, w wrap) []tagged { return tags(c, w)[1:] }
	sounds := tags(aac(86), oldSound(0xAF))
	for name, c := range map[string]struct {
		first, second []tagged
		parts         int
		video         int
	}{
		"the same":                 {tags(small, old(7)), bare(small, old(7)), 1, 100},
		"the same, nothing inside": {tags(pictures(t, media.HEVC, "hevc.h265", false), old(12)), bare(pictures(t, media.HEVC, "hevc.h265", false), old(12)), 1, 100},
		"another size":             {append([]tagged{{9, 0, videoA}}, film320(2000)...), bare(small, old(7)), 2, 100},
		"another codec":            {tags(small, old(7)), bare(hevc, old(12)), 2, 100},
		"never one":                {bare(small, old(7)), bare(small, old(7)), 1, 100},
		"never one, HEVC":          {bare(hevc, enhanced("hvc1", true, false)), bare(hevc, enhanced("hvc1", true, false)), 1, 100},
		"never one, AV1":           {bare(av1(t), enhanced("av01", false, false)), bare(av1(t), old(13)), 1, 100},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.r.Connect(g.now, "")
			g.play(packets(t, mix(c.first, sounds), 0))
			g.disconnect()
			g.now = g.now.Add(50 * time.Millisecond)
			g.r.Connect(g.now, "cut")
			g.play(packets(t, later(mix(c.second, sounds[1:]), 2000), 0))
			g.disconnect()
			if len(g.s.configs) != c.parts || len(g.errs) > 0 {
				t.Errorf("%d parts, want %d; %v", len(g.s.configs), c.parts, g.errs)
			}
			if n := len(g.s.kind(media.Video)); n != c.video {
				t.Errorf("%d frames", n)
			}
			for i, x := range g.s.configs {
				if _, err := codec.Parse(x.Video.Codec, x.Video.Payload()); err != nil {
					t.Errorf("part %d: %v", i, err)
				}
			}
		})
	}
}

// S10: what headers and scripts say of the time means nothing.
func TestTimeOfHeaders(t *testing.T) {
	fs := film(72, 8000, false)
	for _, odd := range []int64{-48_807, 1 << 31, 77, 4_000_000_000} {
		g := newRig(t)
		g.r.Connect(g.now, "")
		for at := int64(0); at < 8000; at += 1000 {
			v, a, s := header(media.VideoConfig, videoA), header(media.AudioConfig, audioA), metadata()
			v.DTS, a.DTS, s.DTS = int64(int32(odd)), int64(int32(odd+5)), int64(int32(odd*2))
			g.push(v, a)
			if at == 0 {
				g.push(s)
			}
			g.live(between(fs, at, at+1000), 0, by(5000))
		}
		g.disconnect()
		g.same(fs)
		g.want(0, 0, 0)
		g.again()
	}
}

// S11: tracks that arrive out of step come out in step.
func TestInterleaving(t *testing.T) {
	fs := film(73, 10_000, false)
	for _, late := range []int64{-250, -120, 120, 250} {
		at := func(f frame) int64 { // when it arrives
			if f.kind == media.Audio {
				return f.at + max(late, 0)
			}
			return f.at + max(-late, 0)
		}
		arrival := slices.Clone(fs)
		slices.SortStableFunc(arrival, func(a, b frame) int { return int(at(a) - at(b)) })
		g := newRig(t)
		g.connect("")
		for _, f := range arrival {
			g.advance(zero.Add(time.Duration(at(f)) * time.Millisecond))
			g.push(f.packet(f.at))
		}
		g.disconnect()
		g.same(fs)
		g.want(0, 0, 0)
		for i := 1; i < len(g.s.items); i++ {
			if g.s.items[i].out < g.s.items[i-1].out {
				t.Fatalf("late by %d: item %d at %d comes after %d", late, i, g.s.items[i].out, g.s.items[i-1].out)
			}
		}
		g.again()
	}
}

// S12: single time stamps that go back a little are moved, nothing else is.
func TestTimeStampsThatGoBack(t *testing.T) {
	fs := film(74, 20_000, false)
	for _, back := range []int64{50, 200, 400} {
		g := newRig(t)
		g.connect("")
		g.live(fs, 0, func(f frame) int64 {
			if f.kind == media.Video && f.at%3000 == 1000 {
				return -back
			}
			return 0
		})
		g.disconnect()
		g.same(fs)
		g.want(0, 0, 0)
		g.steps()
		if g.r.Stats().Clamped == 0 {
			t.Errorf("back by %d: nothing was moved", back)
		}
		v := g.s.kind(media.Video)
		if last := v[len(v)-1].out; last != 20_000-frameMS {
			t.Errorf("back by %d: last frame at %d", back, last)
		}
		g.again()
	}
	// Far back, again and again (Huya: -1400): each time the clock is taken anew, and nothing is lost.
	g := newRig(t)
	g.connect("")
	g.live(fs, 0, func(f frame) int64 { return -1400 * (f.at / 4000) })
	g.disconnect()
	g.same(fs)
	g.steps()
	if len(g.s.gaps) != 0 || g.s.count(repair.Clock) != 4 {
		t.Errorf("%+v %+v", g.s.gaps, g.s.repairs)
	}
	g.again()
}

// D4: two pushes glued together, with the same configuration or another.
func TestGluedPushes(t *testing.T) {
	one, two := film(75, 8000, false), film(76, 8000, false)
	for name, c := range map[string]struct {
		h     []byte
		mark  bool
		parts int
	}{
		"the same header":                    {videoA, true, 1},
		"another header":                     {videoB, true, 2},
		"the same header, no file header":    {videoA, false, 1},
		"another header, and no file header": {videoB, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.connect("")
			g.live(one, 0, by(700_000))
			if c.mark {
				g.push(media.Packet{Kind: media.Restart})
			}
			g.push(metadata(), header(media.VideoConfig, c.h), header(media.AudioConfig, audioA))
			g.live(two, 0, by(0))
			g.disconnect()
			g.same(append(slices.Clone(one), two...))
			g.steps()
			if len(g.s.configs) != c.parts || len(g.s.gaps)+len(g.s.repairs) != 1 {
				t.Errorf("%d parts, %+v %+v", len(g.s.configs), g.s.gaps, g.s.repairs)
			}
			g.again()
		})
	}
}

// T7, D2: the connection is cut at any byte of a group of pictures, and comes back with some of it again, or none.
func TestCutAtEveryByte(t *testing.T) {
	fs := film(77, 10_000, false)
	var ts []tagged
	for _, f := range fs {
		typ := byte(flv.TagVideo)
		if f.kind == media.Audio {
			typ = flv.TagAudio
		}
		ts = append(ts, tagged{typ, f.at, f.body})
	}
	heads := []tagged{{flv.TagVideo, 0, videoA}, {flv.TagAudio, 0, audioA}}
	offset := []int{0} // of each tag, in the stream
	for i, x := range ts {
		offset = append(offset, offset[i]+len(x.body)+15)
	}
	before := packets(t, slices.Concat(heads, ts), 0)
	from := slices.IndexFunc(ts, func(x tagged) bool { return x.at >= 6000 })
	to := slices.IndexFunc(ts, func(x tagged) bool { return x.at >= 8000 })
	for _, back := range []int64{0, 2000} {
		first, thin := some(5)
		for b := offset[from] + 37*first; b < offset[to]; b += 37 * thin {
			whole := slices.IndexFunc(offset, func(o int) bool { return o > b }) - 1 // tags
			// The Demuxer gives whole tags only, and the rest as partial.
			stream := flv.AppendFileHeader(nil, true, true)
			for _, x := range slices.Concat(heads, ts[:whole+1]) {
				stream = flv.AppendTag(stream, x.typ, uint32(x.at), x.body)
			}
			stream = stream[:len(stream)-(offset[whole+1]-b)]
			d := flv.NewDemuxer(flv.DemuxerConfig{})
			n, partial := 0, int64(0)
			for r := bytes.NewReader(stream); ; {
				batch, err := d.Fill(r)
				if err != nil {
					batch = d.Close()
				}
				if batch != nil {
					n += len(batch.Packets)
					partial += batch.Count.Partial
					batch.Release()
				}
				if err != nil {
					break
				}
			}
			if n != whole+2 || partial != int64(b-offset[whole]) {
				t.Fatalf("cut at %d: %d packets, want %d; %d bytes left, want %d", b, n, whole+2, partial, b-offset[whole])
			}
			g := newRig(t)
			g.r.Connect(g.now, "")
			g.play(before[:n])
			g.disconnect()
			g.now = g.now.Add(100 * time.Millisecond)
			g.r.Connect(g.now, "cut")
			start := whole
			if back > 0 {
				start = slices.IndexFunc(fs, func(f frame) bool { return f.key && f.at >= fs[whole].at-back })
			}
			g.play(append(slices.Clone(before[:2]), before[start+2:]...))
			g.disconnect()
			g.same(fs)
			g.want(0, 0, 1)
			if g.s.count(repair.Seam) != 1 || t.Failed() {
				t.Fatalf("cut at byte %d, back by %d: %+v %+v", b, back, g.s.gaps, g.s.repairs)
			}
		}
	}
}
