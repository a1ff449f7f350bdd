package hlspull_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/recorder/hlspull"
)

// BenchmarkPull is what a byte costs from a server on loopback to the receiver of the batches, server included.
func BenchmarkPull(b *testing.B) {
	for _, kind := range []string{"mpegts", "fmp4"} {
		b.Run(kind, func(b *testing.B) {
			dir := b.TempDir()
			command(b, dir, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30,noise=alls=40", "-f", "lavfi", "-i", "sine", "-t", "20",
				"-c:v", "libx264", "-preset", "ultrafast", "-b:v", "8M", "-maxrate", "8M", "-bufsize", "8M", "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "aac",
				"-f", "hls", "-hls_time", "2", "-hls_list_size", "0", "-hls_segment_type", kind, "list.m3u8")
			var size int64
			files, err := filepath.Glob(filepath.Join(dir, "*.[tm][s4]*"))
			if err != nil {
				b.Fatal(err)
			}
			for _, f := range files {
				if i, err := os.Stat(f); err == nil {
					size += i.Size()
				}
			}
			srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
			defer srv.Close()
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				s, err := hlspull.New(hlspull.Config{URL: srv.URL + "/list.m3u8", Log: zerolog.Nop()})
				if err != nil {
					b.Fatal(err)
				}
				out := make(chan *media.Batch, 16)
				done := make(chan int)
				go func() {
					n := 0
					for x := range out {
						n += len(x.Packets)
						x.Release()
					}
					done <- n
				}()
				err = s.Run(b.Context(), out)
				close(out)
				if n := <-done; n < 1000 {
					b.Fatalf("%d packets, %v", n, err)
				}
			}
		})
	}
}
