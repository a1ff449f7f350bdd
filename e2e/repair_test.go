package e2e

import (
	"bytes"
	"crypto/sha256"
	bigendian "encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/media/probe"
)

// repairs is `liverec repair --json`.
type repairs struct {
	Format string `json:"format"`
	OK     bool   `json:"ok"`
	Files  []struct {
		File  string `json:"file"`
		Sound bool   `json:"sound"`
		Wrong []struct {
			What string `json:"what"`
		} `json:"wrong"`
		Done []struct {
			What string `json:"what"`
		} `json:"done"`
		Parts []struct {
			Path        string `json:"path"`
			VideoFrames int    `json:"video_frames"`
			Content     string `json:"content"`
		} `json:"parts"`
		Error string `json:"error"`
	} `json:"files"`
}

// brokenClips makes 8 s of video with 25 frames a second in each container and codec, and breaks them.
func brokenClips(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	ffmpeg := rig.Tool(t, "ffmpeg")
	run := func(args string, file string) []byte {
		name := filepath.Join(dir, file)
		all := append([]string{"-v", "error", "-y"}, strings.Fields(args)...)
		if out, err := exec.CommandContext(t.Context(), ffmpeg, append(all, name)...).CombinedOutput(); err != nil {
			t.Fatalf("ffmpeg %s: %v: %s", args, err, out)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	source := "-f lavfi -i testsrc2=s=320x180:r=25 -f lavfi -i sine=f=440:r=48000 -t 8 "
	run(source+"-c:v libx264 -preset ultrafast -g 50 -bf 2 -c:a aac", "avc.mp4")
	run(source+"-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=50 -tag:v hvc1 -c:a ac3", "hevc.mp4")
	avc, hevc := "-i "+filepath.Join(dir, "avc.mp4")+" -c copy ", "-i "+filepath.Join(dir, "hevc.mp4")+" -c copy "
	flv, ts, hts := run(avc, "avc.flv"), run(avc, "avc.ts"), run(hevc, "hevc.ts")
	frag, hfrag := run(avc+"-movflags frag_keyframe+empty_moov+default_base_moof", "frag.mp4"), run(hevc+"-tag:v hvc1 -movflags frag_keyframe+delay_moov", "hfrag.mp4")
	fast := run(avc+"-movflags faststart", "fast.mp4")
	rubbish := bytes.Repeat([]byte("<b>Bad Gateway</b>"), 300)
	tagAt := func(at int) int { // the next tag at or behind a place
		pos := 13
		for pos < at {
			pos += 15 + int(flv[pos+1])<<16 + int(flv[pos+2])<<8 + int(flv[pos+3])
		}
		return pos
	}
	sizes := slices.Clone(flv)
	for pos := 13; pos < len(sizes); {
		n := int(sizes[pos+1])<<16 + int(sizes[pos+2])<<8 + int(sizes[pos+3])
		bigendian.BigEndian.PutUint32(sizes[pos+11+n:], 0)
		pos += 15 + n
	}
	jump := slices.Clone(flv)
	for pos := tagAt(len(flv) / 2); pos < len(jump); {
		n := int(jump[pos+1])<<16 + int(jump[pos+2])<<8 + int(jump[pos+3])
		jump[pos+4] += 2 // 131 s
		pos += 15 + n
	}
	moof := func(b []byte, n int) int {
		at := 0
		for range n {
			at += bytes.Index(b[at:], []byte("moof")) + 4
		}
		return at - 8
	}
	wrong := slices.Clone(frag)
	bigendian.BigEndian.PutUint32(wrong[moof(frag, 1)+bytes.Index(frag[moof(frag, 1):], []byte("mdat"))-4:], 1<<30)
	return map[string][]byte{
		"cut.flv":       flv[:len(flv)*2/3+7],
		"rubbish.flv":   slices.Insert(slices.Clone(flv), tagAt(len(flv)/2), rubbish...),
		"header.flv":    slices.Insert(slices.Clone(flv), tagAt(len(flv)/2), flv[:tagAt(14)]...),
		"headless.flv":  flv[13:],
		"sizes.flv":     sizes,
		"jump.flv":      jump,
		"noindex.flv":   flv,
		"cut.ts":        ts[:len(ts)*2/3+7],
		"rubbish.ts":    slices.Insert(slices.Clone(ts), len(ts)/2/188*188, rubbish...),
		"middle.ts":     ts[len(ts)/3:],
		"twice.ts":      append(slices.Clone(ts), ts...),
		"hevc.ts":       hts[:len(hts)*2/3+7],
		"cut.mp4":       frag[:len(frag)*2/3+7],
		"rubbish.mp4":   slices.Insert(slices.Clone(frag), moof(frag, 3), rubbish...),
		"wrongsize.mp4": wrong,
		"two.mp4":       append(slices.Clone(frag), frag...),
		"fast.mp4":      fast[:len(fast)*2/3+7],
		"hevc.mp4":      hfrag[:len(hfrag)*2/3+7],
		"sound.mp4":     frag,
	}
}

// What is broken in any way comes out as parts that the checker and ffmpeg find nothing wrong with; the file itself stays
// as it is; and a repair of a part changes nothing.
func TestRepairOfEveryKind(t *testing.T) {
	t.Parallel()
	ffmpeg := rig.Tool(t, "ffmpeg")
	dir := t.TempDir()
	for name, b := range brokenClips(t, t.TempDir()) {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			first, second := filepath.Join(dir, name+".out"), filepath.Join(dir, name+".again")
			var r, again repairs
			rig.JSON(t, liverec(dir, "repair", "--json", name, "--out", first), 0, &r)
			if r.Format != "liverec-repair/1" || !r.OK || len(r.Files) != 1 || len(r.Files[0].Parts) == 0 {
				t.Fatalf("%+v", r)
			}
			if f := r.Files[0]; f.Sound != (name == "sound.mp4") || f.Sound != (len(f.Wrong) == 0) || f.Sound == (len(f.Done) > 0) {
				t.Errorf("%+v", f)
			}
			if now, err := os.ReadFile(file); err != nil || sha256.Sum256(now) != sha256.Sum256(b) {
				t.Errorf("the file was changed (%v)", err)
			}
			frames := 0
			for _, p := range r.Files[0].Parts {
				rep, err := probe.CheckFile(p.Path)
				if err != nil {
					t.Fatal(err)
				}
				var known []probe.Code
				if strings.HasPrefix(name, "tw") { // the same pictures were put in twice
					known = append(known, probe.Twice)
				}
				if err := rep.Check(known...); err != nil {
					t.Error(err)
				}
				frames += p.VideoFrames
				if out, err := exec.CommandContext(t.Context(), ffmpeg, "-v", "error", "-xerror", "-i", p.Path, "-f", "null", "-").CombinedOutput(); err != nil {
					t.Errorf("ffmpeg: %v: %s", err, out)
				}
				rig.JSON(t, liverec(dir, "repair", p.Path, "--json", "--out", second), 0, &again)
				if f := again.Files[0]; !f.Sound || len(f.Done) > 0 || len(f.Parts) != 1 || f.Parts[0].VideoFrames != p.VideoFrames {
					t.Errorf("again: %+v", f)
				}
				twice, err := probe.CheckFile(again.Files[0].Parts[0].Path)
				if err != nil {
					t.Fatal(err)
				}
				for i := range rep.Tracks {
					if rep.Tracks[i].Content != twice.Tracks[i].Content {
						t.Errorf("again: another %s", rep.Tracks[i].Kind)
					}
				}
			}
			least := 195 // of 200
			switch {
			case name == "cut.mp4", strings.HasPrefix(name, "hevc"), strings.HasPrefix(name, "middle"):
				least = 95 // a fragment without its sound ends with the one before; a stream that was joined begins at a key frame
			case strings.HasPrefix(name, "cut"), strings.HasPrefix(name, "fast"):
				least = 120
			case strings.HasPrefix(name, "two"), strings.HasPrefix(name, "twice"):
				least = 398
			}
			if frames < least {
				t.Errorf("%d pictures came out", frames)
			}
		})
	}
}

func TestRepairOfWhatIsLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, b := range map[string]string{
		"lost.mp4":  "\x00\x00\x00\x14ftypisom\x00\x00\x02\x00isom\x00\x00\x10\x00mdat" + strings.Repeat("\x00\x00\x00\x05\x65abcd", 300),
		"page.flv":  "<html>404</html>",
		"empty.mp4": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		p := liverec(dir, "repair", name).Start(t)
		p.Ends(t, 10*time.Second, 1)
		if !strings.Contains(p.Stdout.String(), name) || strings.Count(p.Stderr.String(), "\n") != 1 {
			t.Errorf("%s: %q, %q", name, p.Stdout.String(), p.Stderr.String())
		}
		if name == "lost.mp4" && !strings.Contains(p.Stderr.String(), "lost") {
			t.Errorf("%q", p.Stderr.String())
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*repaired*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// The content hash of every copy is made anew from the copy alone, on a folder and on S3, and stands in the manifest.
func TestVerifyDeep(t *testing.T) {
	t.Parallel()
	for _, container := range []string{"flv", "mp4", "ts"} {
		t.Run(container, func(t *testing.T) { verifyDeep(t, container) })
	}
}

func verifyDeep(t *testing.T, container string) {
	dir := t.TempDir()
	s3 := rig.StartS3(t)
	_, url := live(t, liveroom.Config{Duration: 8 * time.Second, Speed: 4})
	archive := filepath.Join(dir, "archive")
	liverec(dir, "record", url, "--once", "--grace", "1s", "--segment", "3s", "--container", container, "--to", archive, "--to", s3.Dest("x", "")).Start(t).Ends(t, after(8*time.Second), 0)
	manifest, ok := rig.ReadManifest(t, archive)
	if !ok || len(manifest.Parts) < 2 {
		t.Fatalf("%+v", manifest)
	}
	var v struct {
		OK    bool `json:"ok"`
		Parts []struct {
			Seq     int    `json:"seq"`
			Content string `json:"content"`
			Answer  string `json:"answer"`
		} `json:"parts"`
	}
	rig.JSON(t, liverec(dir, "verify", manifest.Broadcast, "--deep", "--json"), 0, &v)
	if !v.OK || len(v.Parts) != 2*len(manifest.Parts) {
		t.Fatalf("%+v", v)
	}
	for _, p := range v.Parts {
		name := filepath.Join(filepath.Dir(rig.Manifests(t, archive)[0]), manifest.Parts[p.Seq-1].Name)
		rep, err := probe.CheckFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := rep.Check(); err != nil || rep.Container != container {
			t.Errorf("%s: %v, %s", name, err, rep.Container)
		}
		if want := fmt.Sprintf("%016x", rep.Content); p.Content != want || p.Answer != "ok" {
			t.Errorf("%+v, want %s", p, want)
		}
	}
}
