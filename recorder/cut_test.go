package recorder_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/codec"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/media/probe"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
)

// headers are the sequence headers of a real clip, video and audio.
func headers(t testing.TB) (video, audio []byte) {
	t.Helper()
	var b bytes.Buffer
	if _, err := liveroom.Write(&b, liveroom.Config{}, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	d := flv.NewDemuxer(flv.DemuxerConfig{})
	defer d.Close()
	for {
		batch, err := d.Fill(&b)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range batch.Packets {
			switch p.Kind {
			case media.VideoConfig:
				video = bytes.Clone(p.Body)
			case media.AudioConfig:
				audio = bytes.Clone(p.Body)
			}
		}
		batch.Release()
		if video != nil && audio != nil {
			return video, audio
		}
	}
}

// script is a source that sends made-up frames at real pace: 25 pictures a second, in groups whose lengths it is told.
type script struct {
	video, audio []byte // sequence headers; nil: no such track
	gops         []int  // pictures per group
	size         int    // bytes of a picture
	frames       int    // pictures, or frames of sound where there is no video
	pace         bool
	from         int   // number of the first picture
	turns        []int // pictures, each the first one of another codec: H.264 first, then HEVC (id 12), and so on
}

func (s *script) Host() string { return "script" }
func (s *script) Close() error { return nil }

// unit makes a frame's body: one NAL unit with a number in it, or a number after the two bytes of an AAC frame.
func unit(key bool, n, size int) []byte {
	nal := make([]byte, max(size, 16))
	nal[0] = 0x41
	b := []byte{0x27, 1, 0, 0, 0}
	if key {
		b[0], nal[0] = 0x17, 0x65
	}
	for i := 1; i < len(nal); i++ {
		nal[i] = byte(n*7+i)%251 + 1
	}
	copy(nal[4:], fmt.Sprintf("%08d", n))
	b = binary.BigEndian.AppendUint32(b, uint32(len(nal)))
	return append(b, nal...)
}

// hevcUnit is unit of HEVC with the codec id of China.
func hevcUnit(key bool, n, size int) []byte {
	b := unit(key, n, size)
	b[0] = b[0]&0xf0 | 12
	b[9], b[10] = 0x02, 1 // a trailing picture
	if key {
		b[9] = 0x26 // an IDR
	}
	return b
}

// hevcHeader is the sequence header of a clip of 320x180.
func hevcHeader() []byte {
	nal := func(s string) [][]byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			panic(err)
		}
		return [][]byte{b}
	}
	record, err := codec.BuildHVCC(nal("40010c01ffff01600000030090000003000003003f959809"),
		nal("42010101600000030090000003000003003fa00a080b9f796566924caf010000030001000003001e08"), nal("4401c172b46240"))
	if err != nil {
		panic(err)
	}
	return append([]byte{0x1c, 0, 0, 0, 0}, record...)
}

func sound(n int) []byte {
	return append([]byte{0xaf, 1}, fmt.Sprintf("sound %08d and some more bytes", n)...)
}

func (s *script) Run(ctx context.Context, out chan<- *media.Batch) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(s.write(ctx, w)) }()
	defer r.Close()
	d := flv.NewDemuxer(flv.DemuxerConfig{})
	var err error
	for err == nil {
		var b *media.Batch
		if b, err = d.Fill(r); b != nil {
			out <- b
		}
	}
	if b := d.Close(); b != nil {
		out <- b
	}
	return err
}

func (s *script) write(ctx context.Context, w io.Writer) error {
	b := flv.AppendFileHeader(nil, s.audio != nil, s.video != nil)
	if s.video != nil {
		b = flv.AppendTag(b, flv.TagVideo, 0, s.video)
	}
	if s.audio != nil {
		b = flv.AppendTag(b, flv.TagAudio, 0, s.audio)
	}
	sounds, group, left, hevc := 0, 0, 0, false
	for ; sounds*1024*1000/44100 < s.from*40; sounds++ {
	}
	for i := s.from; i < s.from+s.frames; i++ {
		ts := i * 40
		if s.video == nil {
			ts = i * 1024 * 1000 / 44100
		}
		for ; s.audio != nil && s.video != nil && sounds*1024*1000/44100 <= ts; sounds++ {
			b = flv.AppendTag(b, flv.TagAudio, uint32(sounds*1024*1000/44100), sound(sounds))
		}
		if s.video != nil {
			if slices.Contains(s.turns, i) {
				hevc, left = !hevc, 0
				b = flv.AppendTag(b, flv.TagVideo, uint32(ts), map[bool][]byte{false: s.video, true: hevcHeader()}[hevc])
			}
			make := unit
			if hevc {
				make = hevcUnit
			}
			if left == 0 {
				left = s.gops[min(group, len(s.gops)-1)]
				group++
				b = flv.AppendTag(b, flv.TagVideo, uint32(ts), make(true, i, s.size))
			} else {
				b = flv.AppendTag(b, flv.TagVideo, uint32(ts), make(false, i, s.size))
			}
			left--
		} else {
			b = flv.AppendTag(b, flv.TagAudio, uint32(ts), sound(i))
		}
		if i%4 == 3 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
			if s.pace {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(160 * time.Millisecond):
				}
			}
		}
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	return io.EOF
}

// single is a room that has one source, once.
type single struct{ src recorder.Source }

func (s *single) Every() time.Duration { return time.Second }
func (s *single) Resolve(context.Context, segment.Room) (recorder.Live, error) {
	src := s.src
	if s.src = nil; src == nil {
		return recorder.Live{Presence: recorder.Offline, Confirmed: true, Why: "over"}, nil
	}
	return recorder.Live{Presence: recorder.OnAir, Source: src}, nil
}

// A limit is a limit: no part is longer than --segment as long as no group of pictures is, and none is needlessly
// shorter.
func TestCuts(t *testing.T) {
	video, audio := headers(t)
	const second = 25
	for _, c := range []struct {
		name        string
		src         script
		limit       time.Duration
		size        int64
		least, most time.Duration // of all parts but the last
		parts       int
		known       []probe.Code
	}{
		{name: "groups divide the limit", src: script{gops: []int{2 * second}, frames: 61 * second}, limit: 10 * time.Second, least: 10 * time.Second, most: 10 * time.Second, parts: 7},
		{name: "groups of 3 s", src: script{gops: []int{3 * second}, frames: 61 * second}, limit: 10 * time.Second, least: 9 * time.Second, most: 9 * time.Second, parts: 7},
		{name: "groups of the limit", src: script{gops: []int{10 * second}, frames: 61 * second}, limit: 10 * time.Second, least: 10 * time.Second, most: 10 * time.Second, parts: 7},
		{name: "a group longer than the limit", src: script{gops: []int{12 * second}, frames: 61 * second}, limit: 10 * time.Second, least: 12 * time.Second, most: 12 * time.Second, parts: 6},
		{name: "groups of all lengths", src: script{gops: []int{50, 100, 20, 37, 64, 90, 50, 50, 12, 75, 41}, frames: 90 * second}, limit: 10 * time.Second, least: 5 * time.Second, most: 10 * time.Second, parts: -1},
		{name: "one key frame and no more", src: script{gops: []int{1 << 20}, frames: 50 * second}, limit: 10 * time.Second, least: 20 * time.Second, most: 20 * time.Second, parts: 3, known: []probe.Code{probe.Start, probe.Index}},
		{name: "only sound", src: script{frames: 2000}, limit: 10 * time.Second, least: 9970 * time.Millisecond, most: 10 * time.Second, parts: 5},
		{name: "size", src: script{gops: []int{second}, frames: 60 * second, size: 8000}, limit: time.Hour, size: 1 << 20, least: 4 * time.Second, most: 6 * time.Second, parts: -1},
		{name: "a group larger than the size", src: script{gops: []int{10 * second}, frames: 30 * second, size: 8000}, limit: time.Hour, size: 1 << 20, least: time.Second, most: 6 * time.Second, parts: -1, known: []probe.Code{probe.Start, probe.Index}},
	} {
		for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
			t.Run(c.name+" "+string(kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, liveroom.Config{})
					r.cfg.Container = kind
					src := c.src
					src.pace, src.audio = true, audio
					if src.gops != nil {
						src.video = video
					}
					r.deps.Resolver = &single{&src}
					r.cfg.Segment, r.cfg.Once, r.cfg.MaxSize = c.limit, true, c.size
					r.start()
					r.wait()
					s := r.session()
					known := c.known
					if kind == recorder.ContainerTS && known != nil { // parameter sets come with key frames
						known = append(slices.Clone(known), probe.Config)
					}
					r.check(s, known...)
					segs := s.Segments()
					if c.parts >= 0 && len(segs) != c.parts {
						t.Errorf("%d parts", len(segs))
					}
					frames := int64(0)
					for i, g := range segs {
						frames += g.VideoFrames
						if src.video == nil {
							frames += g.AudioFrames
						}
						if c.size > 0 && g.Size > c.size {
							t.Errorf("%s has %d bytes", g.ID, g.Size)
						}
						if i < len(segs)-1 && (g.Duration < c.least-2*time.Millisecond || g.Duration > c.most+2*time.Millisecond) {
							t.Errorf("%s lasts %v", g.ID, g.Duration)
						}
					}
					if frames != int64(src.frames) {
						t.Errorf("%d of %d frames", frames, src.frames)
					}
					if err := s.Account.Check(); err != nil || s.Account.Written != total(segs) {
						t.Errorf("account %+v: %v", s.Account, err)
					}
				})
			})
		}
	}
}

// A source at full speed is cut as exactly as one at real pace.
func TestCutsAtFullSpeed(t *testing.T) {
	video, audio := headers(t)
	for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{})
				r.deps.Resolver = &single{&script{video: video, audio: audio, gops: []int{50}, frames: 25 * 121, size: 2000}}
				r.cfg.Once, r.cfg.Container = true, kind
				r.start()
				r.wait()
				s := r.session()
				r.check(s)
				segs := s.Segments()
				if len(segs) != 13 {
					t.Fatalf("%d parts", len(segs))
				}
				for _, g := range segs[:12] {
					if g.Duration != 10*time.Second {
						t.Errorf("%s lasts %v", g.ID, g.Duration)
					}
				}
			})
		})
	}
}

// However short a crash leaves the file, what is whole in it is kept and the rest is cut off; and it can be brought to
// its end from there.
func TestK2_EveryLength(t *testing.T) {
	video, audio := headers(t)
	var whole segment.Segment
	var data []byte
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		r.deps.Resolver = &single{&script{video: video, audio: audio, gops: []int{4}, frames: 9}}
		r.cfg.Once, r.cfg.Segment = true, time.Second
		r.start()
		r.wait()
		whole = r.session().Segments()[0]
		data = read(t, filepath.Join(r.path, filepath.FromSlash(whole.Path)))
	})
	// Where the tags behind the head end.
	ends := []int{int(whole.Head)}
	for at := int(whole.Head); at < len(data); {
		at += 15 + int(data[at+1])<<16 + int(data[at+2])<<8 + int(data[at+3])
		ends = append(ends, at)
	}
	if len(ends) < 15 || ends[len(ends)-1] != len(data) {
		t.Fatalf("%v", ends)
	}
	path := t.TempDir()
	dir, err := durable.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	os.MkdirAll(filepath.Join(path, "m"), 0o755)
	for _, junk := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		for n := 0; n <= len(data); n++ {
			if n < ends[0]-20 && n%37 != 0 || junk != "" && n%3 != 0 || (testing.Short() || raceDetector) && n%5 != 0 {
				continue // the head is the business of pkg/media/flv
			}
			seg := segment.Segment{ID: segment.ID{Session: "S", Seq: 1}, Path: fmt.Sprintf("m/P%d-%d.flv", n, len(junk))}
			name := filepath.Join(path, seg.Path+segment.PartSuffix)
			if err := os.WriteFile(name, append(bytes.Clone(data[:n]), junk...), 0o644); err != nil {
				t.Fatal(err)
			}
			frames, size, _, err := recorder.Reopen(dir, seg)
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			want, k := ends[0], 0
			for k+1 < len(ends) && ends[k+1] <= n {
				k++
				want = ends[k]
			}
			if int(frames) != k || k > 0 && int(size) != want {
				t.Fatalf("%d bytes and %d of junk: %d frames in %d bytes, not %d in %d", n, len(junk), frames, size, k, want)
			}
			if k > 0 && n != want && n%29 != 0 {
				continue
			}
			done, media, err := recorder.Finish(dir, seg)
			if err != nil || media != (k > 0) {
				t.Fatalf("%d bytes: media %v, %v", n, media, err)
			}
			if !media {
				if _, err := dir.Stat(seg.Path + segment.PartSuffix); err == nil {
					t.Fatalf("%d bytes: the empty file is still there", n)
				}
				continue
			}
			rep, err := probe.File(filepath.Join(path, seg.Path))
			if err != nil {
				t.Fatal(err)
			}
			if err := rep.Check(probe.Config, probe.Skew); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if done.Size != int64(want) || done.VideoFrames+done.AudioFrames != int64(k) || done.SHA256.IsZero() {
				t.Fatalf("%d bytes: %+v", n, done)
			}
		}
	}
}

// The same of MP4, where it is a whole fragment that counts; and its index may be there already, or half of it.
func TestK2_EveryLengthOfMP4(t *testing.T) {
	video, audio := headers(t)
	var whole segment.Segment
	var data []byte
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		r.deps.Resolver = &single{&script{video: video, audio: audio, gops: []int{8}, frames: 24, pace: true}}
		r.cfg.Once, r.cfg.Segment, r.cfg.Container = true, time.Second, recorder.ContainerMP4
		r.start()
		r.wait()
		whole = r.session().Segments()[0]
		data = read(t, filepath.Join(r.path, filepath.FromSlash(whole.Path)))
	})
	// Where the fragments end: they are found by their names, as the closed file hides them.
	ends := []int{int(whole.Head)}
	for at := int(whole.Head); string(data[at+4:at+8]) == "moof"; {
		at += int(binary.BigEndian.Uint32(data[at:]))
		at += int(binary.BigEndian.Uint32(data[at:]))
		ends = append(ends, at)
	}
	media := ends[len(ends)-1]
	if len(ends) < 3 || string(data[media+4:media+8]) != "moov" {
		t.Fatalf("%v", ends)
	}
	open := bytes.Clone(data)
	at := bytes.Index(open, []byte("mdat")) - 4
	copy(open[at:], []byte("\x00\x00\x00\x10free\x00\x00\x00\x00\x00\x00\x00\x00"))
	path := t.TempDir()
	dir, err := durable.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	os.MkdirAll(filepath.Join(path, "m"), 0o755)
	for _, junk := range []string{"", strings.Repeat("\x00", 24)} {
		for n := 0; n <= len(data); n++ {
			if n%7 != 0 && n < len(data)-3 && !slices.Contains(ends, n) && !slices.Contains(ends, n+1) || junk != "" && n%3 != 0 || (testing.Short() || raceDetector) && n%5 != 0 {
				continue
			}
			for _, b := range [][]byte{open, data} {
				if n < len(data) && &b[0] == &data[0] {
					continue // the head is patched once everything else is there
				}
				seg := segment.Segment{ID: segment.ID{Session: "S", Seq: 1}, Path: fmt.Sprintf("m/P%d-%d-%d.mp4", n, len(junk), b[at+3])}
				name := filepath.Join(path, seg.Path+segment.PartSuffix)
				if err := os.WriteFile(name, append(bytes.Clone(b[:n]), junk...), 0o644); err != nil {
					t.Fatal(err)
				}
				if i, whole := slices.BinarySearch(ends, n); !whole && i < len(ends) && n+len(junk) >= ends[i] {
					continue // see TestZerosInMP4
				}
				want, k := 0, 0
				for k+1 < len(ends) && ends[k+1] <= n {
					k++
					want = ends[k]
				}
				frames, size, _, err := recorder.Reopen(dir, seg)
				if err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				if (frames > 0) != (k > 0) || k > 0 && int(size) != want {
					t.Fatalf("%d bytes and %d of junk: %d frames in %d bytes, not %d fragments in %d", n, len(junk), frames, size, k, want)
				}
				done, found, err := recorder.Finish(dir, seg)
				if err != nil || found != (k > 0) {
					t.Fatalf("%d bytes: media %v, %v", n, found, err)
				}
				if !found {
					continue
				}
				rep, err := probe.File(filepath.Join(path, seg.Path))
				if err != nil {
					t.Fatal(err)
				}
				if err := rep.Check(probe.Config, probe.Skew); err != nil || rep.Layout != "hybrid" {
					t.Fatalf("%d bytes: %s: %v", n, rep.Layout, err)
				}
				if done.Size != rep.Size || done.VideoFrames+done.AudioFrames != frames || done.Content != rep.Content {
					t.Fatalf("%d bytes: %+v", n, done)
				}
				if n == len(data) && !bytes.Equal(read(t, filepath.Join(path, seg.Path)), data) {
					t.Fatalf("a part that was closed already changed")
				}
			}
		}
	}
}

// Where the disk has zeros instead of the last fragment, that is no media.
func TestZerosInMP4(t *testing.T) {
	video, audio := headers(t)
	var whole segment.Segment
	var data []byte
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		r.deps.Resolver = &single{&script{video: video, audio: audio, gops: []int{8}, frames: 24, pace: true}}
		r.cfg.Once, r.cfg.Segment, r.cfg.Container = true, time.Second, recorder.ContainerMP4
		r.start()
		r.wait()
		whole = r.session().Segments()[0]
		data = read(t, filepath.Join(r.path, filepath.FromSlash(whole.Path)))
	})
	at, before := int(whole.Head), 0
	for string(data[at+4:at+8]) == "moof" {
		before = at
		at += int(binary.BigEndian.Uint32(data[at:]))
		at += int(binary.BigEndian.Uint32(data[at:]))
	}
	mdat := before + int(binary.BigEndian.Uint32(data[before:])) + 8
	path := t.TempDir()
	dir, err := durable.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	os.MkdirAll(filepath.Join(path, "m"), 0o755)
	for i, c := range []struct {
		from, durable, want int // zeros from there; what the ledger knows to be safe; what is left
	}{
		{before, 0, before}, {mdat - 8, 0, before}, {mdat, 0, before}, {mdat + 3, 0, before}, {at - 40, 0, before}, {at, 0, at},
		{at, at, at},
		{mdat, at, at}, // safe once and not sound now: that is not for us to change
	} {
		b := bytes.Clone(data[:at])
		clear(b[c.from:])
		patch := bytes.Index(b, []byte("mdat")) - 4
		copy(b[patch:], "\x00\x00\x00\x10free\x00\x00\x00\x00\x00\x00\x00\x00")
		seg := segment.Segment{ID: segment.ID{Session: "S", Seq: 1}, Path: fmt.Sprintf("m/P%d.mp4", i), Size: int64(c.durable)}
		if err := os.WriteFile(filepath.Join(path, seg.Path+segment.PartSuffix), b, 0o644); err != nil {
			t.Fatal(err)
		}
		_, size, _, err := recorder.Reopen(dir, seg)
		if err != nil || int(size) != c.want {
			t.Errorf("zeros from %d of %d, %d of it safe: %d bytes are left, not %d: %v", c.from, at, c.durable, size, c.want, err)
		}
	}
}

// Limits change while a room is recorded: the open part ends sooner, the next one has the new ones, and no frame is lost.
func TestLimitsChangeOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		r.cfg.Segment = time.Hour
		r.room.Start(t.Context())
		r.start()
		adjust := func(l recorder.Limits) {
			t.Helper()
			if err := r.rec.Adjust(l); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.rec.Adjust(recorder.Limits{Segment: time.Millisecond}); err == nil {
			t.Error("parts of a millisecond")
		}
		time.Sleep(30 * time.Second)
		adjust(recorder.Limits{Segment: 10 * time.Second, Grace: time.Hour}) // the open part is longer already
		time.Sleep(30 * time.Second)
		adjust(recorder.Limits{Segment: time.Hour})
		time.Sleep(30 * time.Second)
		adjust(recorder.Limits{Segment: time.Hour, MaxSize: recorder.MinSize}) // the open part is larger already
		time.Sleep(40 * time.Second)
		r.halt()
		segs := r.session().Segments()
		numbers := r.check(r.session())
		unbroken(t, numbers)
		if len(numbers) < 30*128 || len(r.room.Connections()) != 1 {
			t.Errorf("%d pictures, %d connections", len(numbers), len(r.room.Connections()))
		}
		var took []time.Duration
		for _, s := range segs {
			took = append(took, s.Duration.Round(time.Second))
			if s.Size > recorder.MinSize && s.Cut != segment.CutTime && s.Cut != segment.CutSplit {
				t.Errorf("part %d: %d bytes, cut %s", s.ID.Seq, s.Size, s.Cut)
			}
		}
		if len(took) < 6 || took[0] < 30*time.Second || took[0] > 34*time.Second || took[1] != 10*time.Second {
			t.Errorf("parts of %v", took)
		}
	})
}
