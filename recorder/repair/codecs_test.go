package repair_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/repair"
)

// streams are all ways in which a codec comes in FLV. A nil clip is no such track.
func streams(t testing.TB) map[string]struct {
	v, a   clip
	vw, aw wrap
} {
	t.Helper()
	type s = struct {
		v, a   clip
		vw, aw wrap
	}
	avc, hevc, av := pictures(t, media.AVC, "closed.h264", false), pictures(t, media.HEVC, "hevc.h265", false), av1(t)
	aacA := oldSound(0xAF)
	streaminfo := append([]byte("fLaC\x80\x00\x00\x22"), unhex("1000100000000e000010"+"0ac442f0"+"00000000"+"00000000000000000000000000000000")...)
	return map[string]s{
		"HEVC id 12":            {hevc, aac(86), old(12), aacA},
		"hvc1 CodedFrames":      {hevc, aac(86), enhanced("hvc1", true, false), aacA},
		"hvc1 CodedFramesX":     {hevc, aac(86), enhanced("hvc1", true, true), aacA},
		"hvc1 open GOP":         {pictures(t, media.HEVC, "hevc_open.h265", false), aac(86), enhanced("hvc1", true, false), aacA},
		"hvc1 sets in band":     {pictures(t, media.HEVC, "hevc.h265", true), aac(86), enhanced("hvc1", true, false), aacA},
		"avc1 and mp4a":         {avc, aac(86), enhanced("avc1", true, false), newSound("mp4a", true)},
		"av01":                  {av, opus(t), enhanced("av01", false, false), newSound("Opus", true)},
		"av01 X":                {av, opus(t), enhanced("av01", false, true), newSound("Opus", true)},
		"AV1 id 13":             {av, aac(86), old(13), aacA},
		"vp09":                  {vp9(t), opus(t), enhanced("vp09", false, false), newSound("Opus", true)},
		"ModEx":                 {hevc, opus(t), modEx(enhanced("hvc1", true, false)), modEx(newSound("Opus", true))},
		"multitrack, one":       {hevc, opus(t), tracks(true, 0, 0, enhanced("hvc1", true, false)), tracks(false, 0, 0, newSound("Opus", true))},
		"multitrack, number 5":  {hevc, opus(t), tracks(true, 5, 0, enhanced("hvc1", true, false)), tracks(false, 9, 0, newSound("Opus", true))},
		"multitrack, three":     {av, opus(t), tracks(true, 0, 2, enhanced("av01", false, false)), tracks(false, 0, 2, newSound("Opus", true))},
		"multitrack in ModEx":   {hevc, aac(86), modEx(tracks(true, 0, 2, enhanced("hvc1", true, true))), aacA},
		"H.264, MP3":            {avc, sound(t, media.MP3), old(7), oldSound(0x2F)},
		"H.264, MP3 of 8 kHz":   {avc, sound(t, media.MP3), old(7), oldSound(0xEF)},
		"H.264, .mp3":           {avc, sound(t, media.MP3), old(7), newSound(".mp3", false)},
		"H.264, ac-3":           {avc, sound(t, media.AC3), old(7), newSound("ac-3", false)},
		"H.264, ec-3":           {avc, sound(t, media.EAC3), old(7), newSound("ec-3", false)},
		"H.264, Opus id 13":     {avc, noHeader(opus(t)), old(7), oldSound(0xDF)},
		"H.264, A-law":          {avc, noise(media.PCMA, nil, nil, 20, 100), old(7), oldSound(0x7E)},
		"H.264, u-law":          {avc, noise(media.PCMU, nil, nil, 20, 100), old(7), oldSound(0x8E)},
		"H.264, fLaC":           {avc, noise(media.FLAC, append([]byte{0, 0, 0, 0, 0x80, 0, 0, 34}, streaminfo[8:]...), streaminfo, 85, 24), old(7), newSound("fLaC", true)},
		"HEVC alone":            {hevc, clip{}, enhanced("hvc1", true, false), nil},
		"AV1 alone":             {av, clip{}, enhanced("av01", false, false), nil},
		"H.264 alone":           {avc, clip{}, old(7), nil},
		"MP3 alone":             {clip{}, sound(t, media.MP3), nil, oldSound(0x2F)},
		"AC-3 alone":            {clip{}, sound(t, media.AC3), nil, newSound("ac-3", false)},
		"u-law alone":           {clip{}, noise(media.PCMU, nil, nil, 20, 100), nil, oldSound(0x8E)},
		"Opus alone":            {clip{}, opus(t), nil, newSound("Opus", true)},
		"Enhanced AAC alone":    {clip{}, aac(86), nil, newSound("mp4a", true)},
		"H.264 with open GOPs":  {pictures(t, media.AVC, "open.h264", false), aac(86), old(7), aacA},
		"H.264, intra refresh":  {pictures(t, media.AVC, "refresh.h264", false), aac(86), old(7), aacA},
		"avc1, intra refresh":   {pictures(t, media.AVC, "refresh.h264", true), aac(86), enhanced("avc1", true, false), aacA},
		"H.264, sets in frames": {pictures(t, media.AVC, "closed.h264", true), aac(86), old(7), aacA},
	}
}

// noHeader is Opus of which nobody says how many channels it has.
func noHeader(c clip) clip {
	c.start = nil
	c.record = slices.Clone(c.record)
	c.record[1] = 2
	copy(c.record[2:8], []byte{0, 0, 0, 0, 0xBB, 0x80})
	return c
}

func TestEveryCodec(t *testing.T) {
	for name, c := range streams(t) {
		var ts [][]tagged
		for _, tr := range []struct {
			clip
			wrap
		}{{c.v, c.vw}, {c.a, c.aw}} {
			if tr.wrap != nil {
				ts = append(ts, tags(tr.clip, tr.wrap))
			}
		}
		if len(ts) == 1 { // nobody need wait for the other
			has := map[bool]string{true: "hasVideo", false: "hasAudio"}[c.vw == nil]
			body := append([]byte("\x02\x00\x0aonMetaData\x03\x00\x08"+has), 1, 0, 0, 0, 9)
			ts = append(ts, []tagged{{18, 0, body}})
		}
		all := mix(ts...)
		check := func(t *testing.T, g *rig) {
			t.Helper()
			if len(g.errs) > 0 {
				t.Errorf("%v", g.errs)
			}
			if c.vw != nil {
				g.samples(c.v, c.v.units)
			}
			if c.aw != nil {
				g.samples(c.a, c.a.units)
			}
			if len(g.s.configs) != 1 {
				t.Fatalf("%d parts", len(g.s.configs))
			}
			for _, x := range []struct {
				c clip
				p media.Packet
			}{{c.v, g.s.configs[0].Video}, {c.a, g.s.configs[0].Audio}} {
				if x.p.Codec != x.c.codec {
					t.Errorf("configuration of %v, want %v", x.p.Codec, x.c.codec)
				}
				if p := x.p.Payload(); !bytes.Equal(p, x.c.record) && !(x.c.codec == media.Opus && len(p) == len(x.c.record) && p[1] == x.c.record[1]) {
					t.Errorf("record of %v: %x, want %x", x.c.codec, p, x.c.record)
				}
			}
		}
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.r.Connect(g.now, "")
			g.play(packets(t, all, 90_000))
			g.disconnect()
			check(t, g)
			g.want(0, 0, 0)
			g.again()
		})
		back := slices.IndexFunc(all, func(x tagged) bool { return x.at >= 1000 })
		cut := slices.IndexFunc(all, func(x tagged) bool { return x.at >= 1160 })
		heads := slices.DeleteFunc(slices.Clone(all[:8]), func(x tagged) bool {
			return !slices.ContainsFunc(ts, func(s []tagged) bool { return &s[0].body[0] == &x.body[0] }) || len(x.body) == 0
		})
		for i := range heads {
			heads[i].at = all[back].at
		}
		rest := append(slices.Clone(heads), all[back:]...)
		t.Run(name+", connected anew", func(t *testing.T) {
			g := newRig(t)
			g.r.Connect(g.now, "")
			g.play(packets(t, all[:cut], 90_000))
			g.disconnect()
			g.r.Connect(g.now, "cut")
			g.play(packets(t, rest, 90_000))
			g.disconnect()
			check(t, g)
			g.want(0, 0, 1)
			if g.s.count(repair.Seam) != 1 {
				t.Errorf("%+v", g.s.repairs)
			}
		})
		t.Run(name+", started anew", func(t *testing.T) {
			g := newRig(t)
			g.r.Connect(g.now, "")
			g.play(packets(t, all[:cut], 90_000))
			g.kill(g.note())
			g.r.Connect(g.now, "liverec was not running")
			g.play(packets(t, rest, 90_000))
			g.disconnect()
			check(t, g)
			g.want(0, 0, 1)
			if g.r.State().Content != g.s.content || g.r.State().Ordinal != g.s.ordinal {
				t.Error("the content is not what was written")
			}
		})
	}
}

// C11, C17: the codec changes, tracks come late.
func TestCodecChanges(t *testing.T) {
	avc, hevc := pictures(t, media.AVC, "closed.h264", false), pictures(t, media.HEVC, "hevc.h265", false)
	later := func(ts []tagged, ms int64) []tagged {
		ts = slices.Clone(ts)
		for i := range ts {
			ts[i].at += ms
		}
		return ts
	}
	v := func(c clip, w wrap, at int64) []tagged { return later(tags(c, w), at) }
	for name, c := range map[string]struct {
		ts    []tagged
		parts []media.Codec
		video int
		audio []media.Codec
	}{
		"AVC, HEVC, AVC": {
			mix(v(avc, old(7), 0), v(hevc, old(12), 2000), v(avc, old(7), 4000), tags(aac(260), oldSound(0xAF))),
			[]media.Codec{media.AVC, media.HEVC, media.AVC}, 150, []media.Codec{media.AAC, media.AAC, media.AAC},
		},
		"AVC, av01": {
			mix(v(avc, old(7), 0), v(av1(t), enhanced("av01", false, false), 2000), tags(aac(172), oldSound(0xAF))),
			[]media.Codec{media.AVC, media.AV1}, 100, []media.Codec{media.AAC, media.AAC},
		},
		"AVC, then the same as avc1": { // what readers of old know, and what they do not
			mix(v(avc, old(7), 0), v(avc, enhanced("avc1", true, false), 2000), tags(aac(172), oldSound(0xAF))),
			[]media.Codec{media.AVC, media.AVC}, 100, []media.Codec{media.AAC, media.AAC},
		},
		"id 12, then the same as hvc1": {
			mix(v(hevc, old(12), 0), v(hevc, enhanced("hvc1", true, true), 2000), tags(aac(172), oldSound(0xAF))),
			[]media.Codec{media.HEVC}, 100, []media.Codec{media.AAC},
		},
		"AAC, then MP3": {
			mix(v(avc, old(7), 0), v(avc, old(7), 2000), tags(aac(86), oldSound(0xAF)), later(tags(sound(t, media.MP3), oldSound(0x2F)), 2000)),
			[]media.Codec{media.AVC, media.AVC}, 100, []media.Codec{media.AAC, media.MP3},
		},
		"video later": {
			mix(v(avc, old(7), 6000), tags(aac(344), oldSound(0xAF))),
			[]media.Codec{0, media.AVC}, 50, []media.Codec{media.AAC, media.AAC},
		},
		"sound later": {
			mix(v(hevc, old(12), 0), v(hevc, old(12), 2000), v(hevc, old(12), 4000), later(tags(sound(t, media.AC3), newSound("ac-3", false)), 4000)),
			[]media.Codec{media.HEVC, media.HEVC}, 150, []media.Codec{0, media.AC3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.r.Connect(g.now, "")
			g.play(packets(t, c.ts, 0))
			g.disconnect()
			if len(g.errs) > 0 {
				t.Errorf("%v", g.errs)
			}
			var vs, as []media.Codec
			for _, x := range g.s.configs {
				vs, as = append(vs, x.Video.Codec), append(as, x.Audio.Codec)
			}
			if !slices.Equal(vs, c.parts) || !slices.Equal(as, c.audio) {
				t.Errorf("parts of %v and %v", vs, as)
			}
			if n := len(g.s.kind(media.Video)); n != c.video {
				t.Errorf("%d video frames, want %d", n, c.video)
			}
			for _, it := range g.s.items {
				cfg := g.s.configs[it.part-1]
				if it.kind == media.Video && it.packet.Codec != cfg.Video.Codec || it.kind == media.Audio && it.packet.Codec != cfg.Audio.Codec {
					t.Fatalf("%v in a part of %v and %v", it.packet.Codec, cfg.Video.Codec, cfg.Audio.Codec)
				}
			}
			g.want(0, 0, 0)
			g.again()
		})
	}
}

// Of several tracks one is recorded.
func TestOneTrackOfSeveral(t *testing.T) {
	hevc, opusA := pictures(t, media.HEVC, "hevc.h265", false), opus(t)
	one := func(n byte) []tagged {
		return tags(hevc, tracks(true, n, 0, enhanced("hvc1", true, false)))
	}
	for name, order := range map[string][]byte{"0 first": {0, 1, 2}, "0 last": {2, 1, 0}} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			g.r.Connect(g.now, "")
			var ts [][]tagged
			for _, n := range order {
				ts = append(ts, one(n))
			}
			all := mix(append(ts, tags(opusA, newSound("Opus", true)))...)
			g.play(packets(t, all, 0))
			g.disconnect()
			g.samples(hevc, hevc.units)
			g.samples(opusA, opusA.units)
			for _, it := range g.s.items {
				if it.packet.Track != 0 {
					t.Fatalf("%+v", it.packet)
				}
			}
			if g.r.Stats().OtherTracks == 0 || len(g.s.configs) != 1 {
				t.Errorf("%+v, %d parts", g.r.Stats(), len(g.s.configs))
			}
		})
	}
	t.Run("the track is gone", func(t *testing.T) {
		long := hevc
		for range 3 {
			long.units = append(slices.Clone(long.units), hevc.units...)
		}
		for i := range long.units {
			long.units[i].at = int64(i) * 40
		}
		g := newRig(t)
		g.r.Connect(g.now, "")
		g.play(packets(t, one(3), 0))
		g.disconnect()
		g.now = g.now.Add(time.Second)
		g.r.Connect(g.now, "cut")
		g.play(packets(t, tags(long, tracks(true, 4, 0, enhanced("hvc1", true, false))), 3000))
		g.disconnect()
		if n := len(g.s.kind(media.Video)); n < 100 {
			t.Errorf("%d frames", n)
		}
	})
}

// What an Enhanced FLV stream says of its colours goes with the head.
func TestColours(t *testing.T) {
	hevc := pictures(t, media.HEVC, "hevc.h265", false)
	info := append([]byte("\x94hvc1"), "\x02\x00\x09colorInfo\x03\x00\x00\x09"...)
	ts := append([]tagged{{9, 0, info}}, tags(hevc, enhanced("hvc1", true, false))...)
	g := newRig(t)
	g.r.Connect(g.now, "")
	g.play(packets(t, ts, 0))
	g.disconnect()
	if got := g.s.configs[0].Colour; !bytes.Equal(got, info[5:]) {
		t.Errorf("%q", got)
	}
	g.kill(g.note())
	if got := g.r.Configs().Colour; !bytes.Equal(got, info[5:]) {
		t.Errorf("after a restart: %q", got)
	}
	if a := g.r.Account(); a.Scripts != 1 {
		t.Errorf("%+v", a)
	}
}

// A note of an earlier version, which knew nothing but H.264 and AAC, is read.
func TestStateOfOld(t *testing.T) {
	fs := film(70, 8000, false)
	g := newRig(t)
	g.connect("")
	g.live(between(fs, 0, 5000), 0, by(0))
	s := g.note()
	if s.VideoForm != nil || s.AudioForm != nil {
		t.Errorf("the form of FLV of old need not be said: %+v %+v", s.VideoForm, s.AudioForm)
	}
	var tail []repair.TailTag
	for _, it := range g.s.items {
		tail = append(tail, repair.TailTag{Kind: it.kind, Key: it.key, Out: it.out, Size: it.size, Sum: it.sum})
	}
	g.r = repair.Restore(repair.Config{}, g.s, s, tail)
	g.connect("liverec was not running")
	g.live(between(fs, 4000, 8000), 5000, by(0))
	g.disconnect()
	g.same(fs)
	if c := g.r.Configs(); c.Video.Lead != 5 || c.Audio.Lead != 2 || !bytes.Equal(c.Video.Payload(), videoA[5:]) {
		t.Errorf("%+v", c)
	}
}
