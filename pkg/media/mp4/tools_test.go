package mp4_test

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/pkg/media/probe"
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

func run(t testing.TB, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return out.String(), errs.String()
}

// made is a file by ffmpeg. Arguments come behind the two test sources; the last one is the name.
func made(t testing.TB, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), args[len(args)-1])
	run(t, "ffmpeg", slices.Concat([]string{"-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-t", "4"}, args[:len(args)-1], []string{path})...)
	return path
}

// fragmented makes ffmpeg write fMP4 whose own first times are kept.
func fragmented(t testing.TB, args ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(made(t, slices.Concat(args, []string{"-movflags", "frag_keyframe+delay_moov+default_base_moof", "x.mp4"})...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// source is a file by ffmpeg, taken apart by the Demuxer.
type source struct {
	cfg     mp4.Config
	samples []mp4.Sample // as they come live: sorted by DTS
}

func demuxed(t testing.TB, b []byte) source {
	t.Helper()
	in, err := mp4.ParseInit(b)
	if err != nil {
		t.Fatal(err)
	}
	var s source
	for i := range in.Tracks {
		tr := &in.Tracks[i]
		if tr.Refused != nil {
			t.Fatal(tr.Refused)
		}
		c := tr.Track
		c.Timescale = 0
		if tr.Kind == media.Video {
			s.cfg.Video = &c
		} else {
			s.cfg.Audio = &c
		}
	}
	for a, err := range mp4.NewDemuxer(in).Samples(b) {
		if err != nil {
			t.Fatal(err)
		}
		tr := &in.Tracks[a.Track]
		at := func(ticks int64) time.Duration {
			return time.Duration((ticks*int64(time.Second) + int64(tr.Timescale)/2) / int64(tr.Timescale))
		}
		shown := tr.Empty - tr.Start
		s.samples = append(s.samples, mp4.Sample{Video: tr.Kind == media.Video, Key: a.Key, Time: at(a.DTS+shown+1e6) - at(1e6),
			Shift: at(a.PTS-a.DTS+1e6) - at(1e6), Lasts: at(a.Lasts), Data: a.Data})
	}
	sort.SliceStable(s.samples, func(i, j int) bool { return s.samples[i].Time < s.samples[j].Time })
	begin := s.samples[0].Time
	for i := range s.samples {
		s.samples[i].Time -= begin
	}
	return s
}

// states are the three states of one recording.
type states struct{ open, between, closed []byte }

// record writes the samples, with a fragment for each 500 ms.
func (s source) record(t testing.TB) (st states, w *mp4.Writer) {
	t.Helper()
	w, err := mp4.NewWriter(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for _, x := range s.samples {
		if err := w.Add(x); err != nil {
			t.Fatal(err)
		}
		if _, d := w.Pending(); d >= 500*time.Millisecond {
			if b == nil {
				b = append(b, w.Head()...)
			}
			b = w.Flush(b)
		}
	}
	b = w.Flush(b)
	st.open = slices.Clone(b)
	tail, at, patch := w.Close()
	st.between = slices.Concat(b, tail)
	st.closed = slices.Clone(st.between)
	copy(st.closed[at:], patch)
	return st, w
}

func save(t testing.TB, b []byte, name string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// packet is what ffprobe lists of one: times in µs. Durations are left out, since the last one of a fragment is a guess.
type packet struct {
	pts, dts int64
	rest     string // flags and size
}

// packets are those of video and sound, on a clock that is 0 where the first of either is shown.
func packets(t testing.TB, path string) (all [2][]packet) {
	t.Helper()
	zero := int64(1 << 62)
	out, errs := run(t, "ffprobe", "-v", "warning", "-show_entries", "packet=codec_type,pts_time,dts_time,flags,size", "-of", "csv=p=0", path)
	for line := range strings.Lines(errs) {
		if !strings.Contains(line, "Found duplicated MOOV Atom") {
			t.Errorf("ffprobe complains about %s: %s", filepath.Base(path), line)
		}
	}
	for _, line := range strings.Fields(out) {
		f := strings.SplitN(line, ",", 4)
		micro := func(s string) int64 {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				t.Fatal(err)
			}
			return int64(math.Round(v * 1e6))
		}
		p, i := packet{micro(f[1]), micro(f[2]), f[3]}, 0
		if f[0] == "audio" {
			i = 1
		}
		zero = min(zero, p.pts)
		all[i] = append(all[i], p)
	}
	for i := range all {
		for j := range all[i] {
			all[i][j].pts -= zero
			all[i][j].dts -= zero
		}
	}
	return all
}

// differ says where two lists differ by more than one tick of 90 kHz.
func differ(want, got []packet) string {
	for i := range min(len(want), len(got)) {
		near := func(a, b int64) bool { return a-b <= 12 && b-a <= 12 }
		if w, g := want[i], got[i]; w.rest != g.rest || !near(w.pts, g.pts) || !near(w.dts, g.dts) {
			return fmt.Sprintf("packet %d of %d is %v, want %v", i, len(got), g, w)
		}
	}
	if len(want) != len(got) {
		return fmt.Sprintf("%d packets, want %d", len(got), len(want))
	}
	return ""
}

func TestToolsReadEachState(t *testing.T) {
	for name, args := range map[string][]string{
		"H.264 with B frames and AAC": {"-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bf", "2", "-c:a", "aac"},
		"HEVC and AC-3":               {"-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=50:bframes=3", "-tag:v", "hvc1", "-c:a", "ac3"},
		"AV1 and Opus":                {"-c:v", "libsvtav1", "-preset", "12", "-g", "50", "-c:a", "libopus"},
		"VP9 and E-AC-3":              {"-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "50", "-c:a", "eac3"},
		"AAC":                         {"-map", "1:a", "-c:a", "aac", "-ar", "44100"},
		"FLAC":                        {"-map", "1:a", "-c:a", "flac", "-strict", "-2"},
		"MP3":                         {"-map", "1:a", "-c:a", "libmp3lame", "-ar", "44100"},
		"H.264":                       {"-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-r", "30000/1001", "-bf", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := fragmented(t, args...)
			from := save(t, b, "source.mp4")
			s := demuxed(t, b)
			st, w := s.record(t)
			if int64(len(st.between)) > w.Size() || int64(len(st.between)) < w.Size()-200 {
				t.Errorf("%d bytes, Size said %d", len(st.between), w.Size())
			}
			content := w.Content()
			want := packets(t, from)
			for state, b := range map[string][]byte{"open": st.open, "between": st.between, "closed": st.closed} {
				path := save(t, b, state+".mp4")
				r, err := probe.CheckFile(path)
				if err == nil {
					err = r.Check()
				}
				layout := map[string]string{"open": "fragmented", "between": "between", "closed": "hybrid"}[state]
				if err != nil || r.Layout != layout || r.Content != content {
					t.Errorf("%s: the checker says %s with content %x, want %x: %v", state, r.Layout, r.Content, content, err)
				}
				got := packets(t, path)
				for i, kind := range []string{"video", "sound"} {
					if d := differ(want[i], got[i]); d != "" {
						t.Errorf("%s, %s: %s", state, kind, d)
					}
				}
				if _, errs := run(t, "ffmpeg", "-v", "warning", "-xerror", "-i", path, "-f", "null", "-"); errs != "" && state != "between" {
					t.Errorf("%s: ffmpeg complains: %s", state, errs)
				}
			}
		})
	}
}

// shown is what ffprobe should say of samples, on the clock of packets.
func shown(samples []mp4.Sample) (all [2][]packet) {
	zero := int64(1 << 62)
	for _, s := range samples {
		i, flags := 1, "K"
		if s.Video {
			i = 0
			if !s.Key {
				flags = "_"
			}
		}
		p := packet{(s.Time + s.Shift).Microseconds(), s.Time.Microseconds(), fmt.Sprintf("%d,%s_", len(s.Data), flags)}
		zero = min(zero, p.pts)
		all[i] = append(all[i], p)
	}
	for i := range all {
		for j := range all[i] {
			all[i][j].pts -= zero
			all[i][j].dts -= zero
		}
	}
	return all
}

// TestToolsSeeTracksWhereTheyAre: whatever track begins late, and whatever of it was known when the head was written, all
// states show the same.
func TestToolsSeeTracksWhereTheyAre(t *testing.T) {
	whole := demuxed(t, fragmented(t, "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "2", "-c:a", "aac"))
	later := func(video bool, d time.Duration) []mp4.Sample {
		begun := false
		return slices.DeleteFunc(slices.Clone(whole.samples), func(s mp4.Sample) bool {
			begun = begun || s.Video == video && s.Key && s.Time >= d
			return s.Video == video && !begun
		})
	}
	earlier := slices.Clone(whole.samples)
	for i := range earlier {
		if !earlier[i].Video {
			earlier[i].Time -= 70 * time.Millisecond
		}
	}
	sort.SliceStable(earlier, func(i, j int) bool { return earlier[i].Time < earlier[j].Time })
	begin := earlier[0].Time
	for i := range earlier {
		earlier[i].Time -= begin
	}
	for name, samples := range map[string][]mp4.Sample{
		"as it was":           whole.samples,
		"sound 1.3 s later":   later(false, 1300*time.Millisecond),
		"sound 100 ms later":  later(false, 100*time.Millisecond),
		"picture later":       later(true, 900*time.Millisecond),
		"sound 70 ms earlier": earlier,
		"no sound at all":     later(false, time.Hour),
	} {
		for when, at := range map[string]int{"at once": 0, "behind the first sample": 1, "at the end": len(samples)} {
			w, err := mp4.NewWriter(whole.cfg)
			if err != nil {
				t.Fatal(err)
			}
			var head, b []byte
			for i, s := range samples {
				if i == at {
					head = w.Head()
				}
				if err := w.Add(s); err != nil {
					t.Fatal(err)
				}
				if head != nil && i%20 == 19 {
					b = w.Flush(b)
				}
			}
			b = slices.Concat(w.Head(), w.Flush(b))
			tail, to, patch := w.Close()
			between := slices.Concat(b, tail)
			closed := slices.Clone(between)
			copy(closed[to:], patch)
			want := shown(samples)
			for state, b := range map[string][]byte{"open": b, "between": between, "closed": closed} {
				got := packets(t, save(t, b, "x.mp4"))
				for i, kind := range []string{"video", "sound"} {
					if d := differ(want[i], got[i]); d != "" {
						t.Errorf("%s, head %s, %s, %s: %s", name, when, state, kind, d)
					}
				}
			}
		}
	}
}

// What the head says of the colours is what players are told, and what is read again.
func TestToolsSeeColours(t *testing.T) {
	s := demuxed(t, fragmented(t, "-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-t", "1"))
	for want, c := range map[string]mp4.Colour{
		"bt2020nc|smpte2084|bt2020": {Primaries: 9, Transfer: 16, Matrix: 9},
		"smpte170m|bt709|bt709":     {Primaries: 1, Transfer: 1, Matrix: 6, Full: true},
	} {
		s.cfg.Video.Colour = c
		st, _ := s.record(t)
		for state, b := range map[string][]byte{"open": st.open, "between": st.between, "closed": st.closed} {
			got, _ := run(t, "ffprobe", "-v", "error", "-show_entries", "stream=color_space,color_transfer,color_primaries", "-of", "compact=p=0:nk=1", save(t, b, state+".mp4"))
			if strings.TrimSpace(got) != want+"|" {
				t.Errorf("%s: %q, want %q", state, got, want)
			}
			sc, err := mp4.Scan(bytes.NewReader(b), int64(len(b)), mp4.ScanConfig{})
			if err != nil || sc.Config.Video == nil || sc.Config.Video.Colour != c {
				t.Errorf("%s: scanned %+v, %v", state, sc, err)
			}
		}
	}
}

func TestToolsReadG711(t *testing.T) {
	for name, codec := range map[string]media.Codec{"alaw": media.PCMA, "mulaw": media.PCMU} {
		path := made(t, "-map", "1:a", "-ar", "8000", "-f", name, "x.raw")
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{160, 1} {
			f := create(t, mp4.Config{Audio: &mp4.Track{Codec: codec}})
			for at := 0; at < min(len(raw), size*2000); at += size {
				f.add(t, mp4.Sample{Time: time.Duration(at) * time.Second / 8000, Data: raw[at:min(at+size, len(raw))]})
			}
			f.flush()
			between, closed := f.close()
			for state, b := range map[string][]byte{"open": f.b, "between": between, "closed": closed} {
				out, _ := run(t, "ffmpeg", "-v", "error", "-xerror", "-i", save(t, b, "x.mp4"), "-c", "copy", "-f", name, "-")
				if out != string(raw[:min(len(raw), size*2000)]) {
					t.Errorf("%s in samples of %d, %s: %d bytes come out, %d went in, or other ones", name, size, state, len(out), len(raw))
				}
			}
		}
	}
}

// TestToolsAgreeOnFiles compares what File says of foreign files with ffprobe.
func TestToolsAgreeOnFiles(t *testing.T) {
	avc := []string{"-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "2", "-c:a", "aac"}
	for name, args := range map[string][]string{
		"index at the end":      append(slices.Clone(avc), "x.mp4"),
		"index in front":        append(slices.Clone(avc), "-movflags", "faststart", "x.mp4"),
		"QuickTime":             append(slices.Clone(avc), "x.mov"),
		"negative shifts":       append(slices.Clone(avc), "-movflags", "negative_cts_offsets", "x.mp4"),
		"fragments":             append(slices.Clone(avc), "-movflags", "frag_keyframe+empty_moov", "x.mp4"),
		"fragments of a track":  append(slices.Clone(avc), "-movflags", "frag_keyframe+separate_moof+delay_moov", "x.mp4"),
		"no offsets":            append(slices.Clone(avc), "-movflags", "frag_keyframe+omit_tfhd_offset+delay_moov", "x.mp4"),
		"index, then fragments": append(slices.Clone(avc), "-movflags", "frag_keyframe", "x.mp4"),
		"sound alone":           {"-map", "1:a", "-c:a", "libopus", "x.mp4"},
		"HEVC and AC-3":         {"-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:bframes=3", "-c:a", "ac3", "x.mp4"},
		"MP3 in QuickTime":      {"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "libmp3lame", "x.mov"},
		"sound of QuickTime v1": {"-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-ac", "2", "x.mov"},
	} {
		t.Run(name, func(t *testing.T) {
			path := made(t, args...)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := mp4.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			// ffprobe moves the DTS of a file with negative shifts.
			shifted := strings.Contains(name, "negative")
			var got []string
			at := int64(-1)
			for s, err := range f.Samples() {
				if err != nil {
					t.Fatal(err)
				}
				if s.Offset <= at {
					t.Errorf("a sample at %d behind one at %d", s.Offset, at)
				}
				at = s.Offset
				flags := "_"
				if s.Key {
					flags = "K"
				}
				if shifted {
					s.DTS = 0
				}
				got = append(got, fmt.Sprintf("%d: %d %d %d %d %s", s.Track, s.PTS, s.DTS, s.Size, s.Offset, flags))
			}
			var want []string
			out, _ := run(t, "ffprobe", "-v", "error", "-ignore_editlist", "1", "-show_entries", "packet=stream_index,pts,dts,size,pos,flags", "-of", "csv=p=0", path)
			for _, line := range strings.Fields(out) {
				p := strings.Split(line, ",")
				if shifted {
					p[2] = "0"
				}
				want = append(want, fmt.Sprintf("%s: %s %s %s %s %s", p[0], p[1], p[2], p[3], p[4], p[5][:1]))
			}
			slices.Sort(got)
			slices.Sort(want)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("ffprobe against ours: %s", d[:min(len(d), 2000)])
			}
		})
	}
}

// TestToolsShiftsOfEitherSign: with negative shifts and with an edit list each picture is shown at the same time.
func TestToolsShiftsOfEitherSign(t *testing.T) {
	at := func(flags string) (times []int64) {
		b, err := os.ReadFile(made(t, "-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "2", "-movflags", flags, "x.mp4"))
		if err != nil {
			t.Fatal(err)
		}
		f, err := mp4.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		for s, err := range f.Samples() {
			if err != nil {
				t.Fatal(err)
			}
			tr := &f.Tracks[s.Track]
			times = append(times, s.PTS-tr.Start+tr.Empty)
		}
		return times
	}
	want := at("faststart")
	for _, flags := range []string{"cmaf+frag_every_frame", "negative_cts_offsets", "frag_keyframe+delay_moov"} {
		if got := at(flags); len(want) != 100 || !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", flags, got, want)
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
