package rig

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// HLSFolder is a live room made of what ffmpeg's HLS muxer left in a folder: the files are served as they are, each
// list grows as if its media was being made, and has ENDLIST once all of it is there. The first request starts its
// clock.
type HLSFolder struct {
	URL string // of the folder, with a slash at the end

	dir   string
	begin sync.Once
	start time.Time
}

const (
	folderHead   = 3 * time.Second // media that is there at once
	folderWindow = 8               // segments in a list
)

// EncodeHLS lets ffmpeg make HLS in dir. Its lists must be complete (hls_list_size 0).
func EncodeHLS(ctx context.Context, ffmpeg, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, ffmpeg, append([]string{"-v", "error", "-y"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ffmpeg %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// ServeHLSFolder serves a folder until the test is over.
func ServeHLSFolder(t testing.TB, dir string) *HLSFolder {
	t.Helper()
	f := &HLSFolder{dir: dir}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	f.URL = srv.URL + "/"
	return f
}

func (f *HLSFolder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.begin.Do(func() { f.start = time.Now() })
	name := filepath.Join(f.dir, filepath.FromSlash(filepath.Clean("/"+r.URL.Path)))
	b, err := os.ReadFile(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	if strings.HasSuffix(name, ".m3u8") {
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		w.Header().Set("Cache-Control", "no-cache")
		b = grown(b, time.Since(f.start)+folderHead)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// grown is what of a complete list is there after so much media. A multivariant list stays as it is.
func grown(list []byte, at time.Duration) []byte {
	if !bytes.Contains(list, []byte("#EXTINF:")) {
		return list
	}
	var head, lines, segs []string
	var media time.Duration
	var initial string
	end := true
	for line := range strings.Lines(string(list)) {
		v, timed := strings.CutPrefix(line, "#EXTINF:")
		switch {
		case strings.HasPrefix(line, "#EXT-X-ENDLIST"), strings.HasPrefix(line, "#EXT-X-MEDIA-SEQUENCE"):
			continue
		case strings.HasPrefix(line, "#EXT-X-MAP"):
			initial = line // there is one
			continue
		case timed:
			s, _ := strconv.ParseFloat(strings.TrimRight(v, ",\n"), 64) // ffmpeg wrote it
			media += time.Duration(s * float64(time.Second))
			if media > at {
				end = false
			}
		case len(segs) == 0 && len(lines) == 0:
			head = append(head, line)
			continue
		}
		if media > at {
			break
		}
		lines = append(lines, line)
		if !strings.HasPrefix(line, "#") {
			segs, lines = append(segs, strings.Join(lines, "")), nil
		}
	}
	first := max(0, len(segs)-folderWindow)
	out := strings.Join(head, "") + fmt.Sprintf("#EXT-X-MEDIA-SEQUENCE:%d\n", first) + initial + strings.Join(segs[first:], "")
	if end {
		out += "#EXT-X-ENDLIST\n"
	}
	return []byte(out)
}
