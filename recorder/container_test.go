package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/repair"
)

// tool finds an optional program. LIVEREC_NEED_TOOLS=1 makes it a duty.
func tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
			t.Fatalf("%s is needed: %v", name, err)
		}
		t.Skipf("no %s here", name)
	}
	return p
}

// A broadcast in parts of each container: every picture once, nothing missing, and a player that we did not write reads
// each part to its end.
func TestContainers(t *testing.T) {
	for _, kind := range []recorder.Container{recorder.ContainerFLV, recorder.ContainerMP4, recorder.ContainerTS} {
		t.Run(string(kind), func(t *testing.T) {
			var files []string
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{Duration: 25 * time.Second})
				r.cfg.Once, r.cfg.Container = true, kind
				r.room.Start(t.Context())
				r.start()
				r.wait()
				s := r.session()
				numbers := r.check(s)
				unbroken(t, numbers)
				if got, want := len(numbers), len(r.sent()); got != want {
					t.Errorf("%d of %d pictures", got, want)
				}
				if n := len(s.Segments()); n != 3 {
					t.Errorf("%d parts", n)
				}
				if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
					t.Errorf("account %+v: %v", s.Account, err)
				}
				for _, g := range s.Segments() {
					if filepath.Ext(g.Path) != "."+string(kind) {
						t.Errorf("%s is called %s", g.ID, g.Path)
					}
					data := read(t, filepath.Join(r.path, g.Path))
					name := filepath.Join(os.TempDir(), fmt.Sprintf("container-test-%d-%s", os.Getpid(), filepath.Base(g.Path)))
					if err := os.WriteFile(name, data, 0o644); err != nil {
						t.Fatal(err)
					}
					files = append(files, name)
				}
				r.noOrphans()
			})
			for _, name := range files {
				plays(t, name)
				os.Remove(name)
			}
		})
	}
}

// plays fails if ffmpeg has a word to say about a file.
func plays(t *testing.T, name string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), tool(t, "ffmpeg"), "-v", "warning", "-xerror", "-i", name, "-f", "null", "-").CombinedOutput()
	if err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}

// packets is a source that sends made-up packets that did not come from FLV: 25 pictures a second, in groups of two
// seconds, and sound.
type packets struct {
	codec  [2]media.Codec
	config [2][]byte
	frames int
	pace   bool
	big    int    // picture that is larger than anything else
	lead   []byte // stands before the data of every video packet: a tag header
}

func (s *packets) Host() string { return "packets" }
func (s *packets) Close() error { return nil }

func (s *packets) Run(ctx context.Context, out chan<- *media.Batch) error {
	for i := range s.frames {
		size := 0
		if i == s.big && i > 0 {
			size = media.MaxBody
		}
		b := s.batch(i, i+1, size)
		if i == 0 {
			c := s.configs()
			b.Packets = append(c, b.Packets...)
		}
		out <- b
		if s.pace {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(40 * time.Millisecond):
			}
		}
	}
	return io.EOF
}

func (s *packets) configs() (c []media.Packet) {
	for t, k := range []media.Kind{media.VideoConfig, media.AudioConfig} {
		if s.codec[t] != media.NoCodec {
			p := media.Packet{Kind: k, Codec: s.codec[t], Body: s.config[t]}
			if t == 0 {
				p.Body, p.Lead = slices.Concat(s.lead, p.Body), uint16(len(s.lead))
			}
			p.Sum = flv.Sum([]byte{9, 8}[t], p.Body)
			c = append(c, p)
		}
	}
	return c
}

// batch holds the pictures from one number up to another, and the sound that belongs to them.
func (s *packets) batch(from, to, size int) *media.Batch {
	b := media.Get(size + (to-from)*4<<10)
	b.At = time.Now()
	n := 0
	add := func(p media.Packet, data []byte) {
		p.Body = b.Bytes()[n : n+copy(b.Bytes()[n:], data)]
		n += len(p.Body)
		typ := flv.TagVideo
		if p.Kind == media.Audio {
			typ = flv.TagAudio
		}
		p.Sum = flv.Sum(typ, p.Body)
		b.Packets = append(b.Packets, p)
		b.Count.Received += int64(len(p.Body))
		b.Count.Tags += int64(len(p.Body))
	}
	for i := from; i < to; i++ {
		at := func(k int) time.Duration { return time.Duration(k) * 1024 * time.Second / 44100 }
		begin := time.Duration(i) * 40 * time.Millisecond
		first := int(begin * 44100 / 1024 / time.Second)
		for ; at(first) < begin; first++ {
		}
		for k := first; s.codec[1] != media.NoCodec && at(k) < begin+40*time.Millisecond; k++ {
			add(media.Packet{Kind: media.Audio, Codec: s.codec[1], DTS: at(k).Milliseconds(), Exact: at(k)}, sound(k)[2:])
		}
		data := unit(i%50 == 0, i, max(2000, size-4))[5:]
		data = slices.Concat(s.lead, data)
		add(media.Packet{Kind: media.Video, Codec: s.codec[0], Lead: uint16(len(s.lead)), Key: i%50 == 0, DTS: begin.Milliseconds(), Exact: begin}, data)
	}
	return b
}

// Packets without an FLV tag header become MP4, or FLV with tag headers where that is asked for.
func TestContainerOfSamples(t *testing.T) {
	video, audio := headers(t)
	enhanced := []byte("\x91avc1\x00\x00\x00")
	for _, c := range []struct {
		want recorder.Container
		ext  string
		lead []byte
	}{
		{recorder.ContainerAuto, ".mp4", enhanced}, {recorder.ContainerFLV, ".flv", enhanced}, {recorder.ContainerTS, ".ts", enhanced},
		{"", ".mp4", nil}, {recorder.ContainerAuto, ".mp4", nil}, {recorder.ContainerMP4, ".mp4", nil}, {recorder.ContainerFLV, ".flv", nil}, {recorder.ContainerTS, ".ts", nil},
	} {
		t.Run(fmt.Sprintf("%s %x", c.want, c.lead), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{})
				r.deps.Resolver = &single{&packets{codec: [2]media.Codec{media.AVC, media.AAC}, config: [2][]byte{video[5:], audio[2:]}, frames: 25 * 25, pace: true, lead: c.lead}}
				r.cfg.Once, r.cfg.Container = true, c.want
				r.start()
				r.wait()
				s := r.session()
				r.check(s)
				segs := s.Segments()
				if len(segs) != 3 {
					t.Fatalf("%d parts", len(segs))
				}
				frames := int64(0)
				for _, g := range segs {
					frames += g.VideoFrames
					if filepath.Ext(g.Path) != c.ext {
						t.Errorf("%s is called %s", g.ID, g.Path)
					}
				}
				if frames != 25*25 {
					t.Errorf("%d pictures", frames)
				}
				if err := s.Account.Check(); err != nil || s.Account.Written != total(segs) {
					t.Errorf("account %+v: %v", s.Account, err)
				}
			})
		})
	}
}

// A frame that FLV cannot hold is left out, and a gap says so.
func TestContainerRefusesAFrame(t *testing.T) {
	video, audio := headers(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		r.deps.Resolver = &single{&packets{codec: [2]media.Codec{media.AVC, media.AAC}, config: [2][]byte{video[5:], audio[2:]}, frames: 100, big: 70, pace: true}}
		r.cfg.Once, r.cfg.Container = true, recorder.ContainerFLV
		r.start()
		r.wait()
		s := r.session()
		r.check(s)
		if n := s.Segments()[0].VideoFrames; len(s.Segments()) != 1 || n != 99 {
			t.Errorf("%d parts, %d pictures", len(s.Segments()), n)
		}
		if len(s.Gaps) != 1 || s.Gaps[0].AfterSeq != 1 || s.Gaps[0].Length <= 0 || s.Gaps[0].Length > 80*time.Millisecond || !strings.Contains(s.Gaps[0].Why, "too many for FLV") {
			t.Errorf("gaps %+v", s.Gaps)
		}
		if err := s.Account.Check(); err != nil || s.Account.Dropped != 1 || s.Account.Written != total(s.Segments()) {
			t.Errorf("account %+v: %v", s.Account, err)
		}
	})
}

func TestContainerCheck(t *testing.T) {
	for _, c := range []recorder.Container{"", "auto", "flv", "mp4", "ts"} {
		if err := c.Check(); err != nil {
			t.Error(err)
		}
	}
	cfg := recorder.Config{Container: "mkv"}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), `"mkv"`) {
		t.Errorf("%v", err)
	}
	err := error(&recorder.ContainerError{Container: recorder.ContainerFLV, Codec: media.HEVC})
	if u, ok := errors.AsType[*repair.Unsupported](err); !ok || u.Codec != media.HEVC {
		t.Errorf("%v", err)
	}
}

// A source that changes its codec changes the container with it, also when the next part was begun for another one. Each
// part holds what was sent, and a death at any step costs nothing.
func TestContainerFollowsTheCodec(t *testing.T) {
	video, audio := headers(t)
	for _, c := range []struct {
		want  recorder.Container
		names []string
	}{
		{recorder.ContainerAuto, []string{"P0001.flv", "P0002.mp4", "P0003.mp4", "P0004.flv"}},
		{recorder.ContainerMP4, []string{"P0001.mp4", "P0002.mp4", "P0003.mp4", "P0004.mp4"}},
		{recorder.ContainerTS, []string{"P0001.ts", "P0002.ts", "P0003.ts", "P0004.ts"}},
	} {
		t.Run(string(c.want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{})
				src := &script{video: video, audio: audio, gops: []int{50}, frames: 25 * 32, size: 1000, pace: true, turns: []int{25 * 9, 25 * 27}}
				r.deps.Resolver = &single{src}
				r.cfg.Once, r.cfg.Container = true, c.want
				r.start()
				r.wait()
				s := r.session()
				r.check(s)
				var names []string
				frames := int64(0)
				for _, g := range s.Segments() {
					names = append(names, path.Base(g.Path))
					frames += g.VideoFrames
				}
				if !slices.Equal(names, c.names) || frames != int64(src.frames) {
					t.Errorf("%d pictures in %v", frames, names)
				}
				if len(s.Gaps) != 0 {
					t.Errorf("gaps %+v", s.Gaps)
				}
				if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
					t.Errorf("account %+v: %v", s.Account, err)
				}
				r.noOrphans()
			})
		})
	}
}

// What the container cannot hold is refused by name, and recorded again as soon as it can be.
func TestContainerRefusesACodec(t *testing.T) {
	video, audio := headers(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, liveroom.Config{})
		again := &again{sources: []recorder.Source{
			&script{video: video, audio: audio, gops: []int{50}, frames: 25 * 10, size: 1000, pace: true, turns: []int{25 * 5}},
			&script{video: video, audio: audio, gops: []int{50}, from: 25 * 12, frames: 25 * 5, size: 1000, pace: true, turns: []int{25 * 12}},
			&script{video: video, audio: audio, gops: []int{50}, from: 25 * 20, frames: 25 * 5, size: 1000, pace: true},
		}}
		r.deps.Resolver = again
		r.cfg.Once, r.cfg.Container = true, recorder.ContainerFLV
		r.start()
		r.wait()
		s := r.session()
		r.check(s)
		frames := int64(0)
		for _, g := range s.Segments() {
			frames += g.VideoFrames
		}
		if frames != 25*10 {
			t.Errorf("%d pictures", frames)
		}
		if len(s.Gaps) != 1 || s.Gaps[0].Why != "HEVC cannot be recorded as FLV here; --container auto writes MP4" {
			t.Errorf("gaps %+v", s.Gaps)
		}
		if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
			t.Errorf("account %+v: %v", s.Account, err)
		}
	})
}

// again is a room with one source after the other.
type again struct{ sources []recorder.Source }

func (a *again) Every() time.Duration { return time.Second }
func (a *again) Resolve(context.Context, segment.Room) (recorder.Live, error) {
	if len(a.sources) == 0 {
		return recorder.Live{Presence: recorder.Offline, Confirmed: true, Why: "over"}, nil
	}
	src := a.sources[0]
	a.sources = a.sources[1:]
	return recorder.Live{Presence: recorder.OnAir, Source: src}, nil
}

// The notes of earlier versions can be read, those of later ones cannot.
func TestNotesOfOld(t *testing.T) {
	const rest = `"seq":3,"head":1852,"base":12000,"size":90000,"frames":70,"content":7,"repair":{"v":1,"last":[13000,13010],"video":"FwAAAAAB"}}`
	for version, want := range []bool{false, true, true, false} {
		seq, last, ok := recorder.ReadNote([]byte(fmt.Sprintf(`{"v":%d,`, version) + rest))
		if ok != want || ok && (seq != 3 || last != [2]int64{13000, 13010}) {
			t.Errorf("version %d: %v, %d, %v", version, ok, seq, last)
		}
	}
}

// Another --container after a restart: the part that is open goes on as what it is, the next one is what is wanted now.
func TestContainerIsAnotherAfterARestart(t *testing.T) {
	for _, c := range []struct{ first, then recorder.Container }{
		{recorder.ContainerFLV, recorder.ContainerMP4}, {recorder.ContainerMP4, recorder.ContainerAuto}, {recorder.ContainerTS, recorder.ContainerMP4},
		{recorder.ContainerAuto, recorder.ContainerTS},
	} {
		t.Run(string(c.first+" then "+c.then), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, liveroom.Config{Duration: 33 * time.Second})
				r.cfg.Once, r.cfg.Container = true, c.first
				r.room.Start(t.Context())
				k := newKiller(0)
				go func() {
					time.Sleep(15300 * time.Millisecond)
					k.kill()
				}()
				if !r.life(k) {
					t.Fatal("it lives")
				}
				r.cfg.Container = c.then
				time.Sleep(time.Second)
				r.life(newKiller(0))
				s := r.session()
				numbers := r.check(s)
				once(t, numbers)
				missing, told := holes(s, numbers)
				if (missing-told).Abs() > 150*time.Millisecond || missing > 8*time.Second {
					t.Errorf("%v are missing, %v are said to be: %v", missing, told, s.Gaps)
				}
				kinds := map[bool]string{}
				for _, g := range s.Segments() {
					kinds[g.ID.Seq <= 2] += path.Ext(g.Path)
				}
				ext := func(k recorder.Container) string {
					if k == recorder.ContainerAuto {
						k = recorder.ContainerFLV
					}
					return "." + string(k)
				}
				if kinds[true] != ext(c.first)+ext(c.first) || strings.ReplaceAll(kinds[false], ext(c.then), "") != "" || kinds[false] == "" {
					t.Errorf("parts %v", s.Segments())
				}
				if err := s.Account.Check(); err != nil || s.Account.Written != total(s.Segments()) {
					t.Errorf("account %+v: %v, %d in the parts", s.Account, err, total(s.Segments()))
				}
				r.noOrphans()
			})
		})
	}
}
