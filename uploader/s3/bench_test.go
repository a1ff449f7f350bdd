package s3

import (
	"bufio"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/segment"
)

// sink is a process that speaks as much S3 as an upload needs and throws the bytes away: the benchmark measures the
// sender alone.
func sink() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	buf := make(chan []byte, 64)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b []byte
		select {
		case b = <-buf:
		default:
			b = make([]byte, 1<<20)
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r.Body}, b)
		select {
		case buf <- b:
		default:
		}
		q := r.URL.Query()
		switch {
		case r.Method == http.MethodPut:
			w.Header().Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
			w.Header().Set("X-Amz-Checksum-Crc32c", r.Header.Get("X-Amz-Checksum-Crc32c"))
		case r.Method == http.MethodPost && q.Has("uploads"):
			w.Header().Set("X-Amz-Checksum-Algorithm", "CRC32C")
			fmt.Fprint(w, `<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key><UploadId>id</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodPost:
			fmt.Fprint(w, `<CompleteMultipartUploadResult><Bucket>bucket</Bucket><ETag>"e-1"</ETag></CompleteMultipartUploadResult>`)
		case q.Has("uploads"):
			_ = xml.NewEncoder(w).Encode(struct {
				XMLName xml.Name `xml:"ListMultipartUploadsResult"`
			}{})
		case r.Method == http.MethodHead && strings.Count(strings.Trim(r.URL.Path, "/"), "/") > 0:
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	_ = srv.Serve(l)
}

func startSink(b *testing.B) string {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), "LIVEREC_S3_SINK=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return "http://" + strings.TrimSpace(line)
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkUploadCPU compares the CPU time (user and system) that this process pays for one GB over plain http with what
// `curl -T` pays for the same file to the same sink in the same run. At most 4 x is the promise.
func BenchmarkUploadCPU(b *testing.B) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		b.Skip("curl is not installed")
	}
	const size = 512 << 20
	for _, chunk := range []int64{5 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("parts of %d MiB", chunk>>20), func(b *testing.B) {
			endpoint := startSink(b)
			local := filepath.Join(b.TempDir(), "P0001.flv")
			f, err := os.Create(local)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			h := sha256.New()
			block := make([]byte, 1<<20)
			for i := range size >> 20 {
				for j := range block {
					block[j] = byte(i * j)
				}
				h.Write(block)
				if _, err := f.Write(block); err != nil {
					b.Fatal(err)
				}
			}
			o := segment.Object{ID: segment.ID{Session: "01J", Seq: 1}, Key: "alice/P0001.flv", Local: local, Size: size, MaxSize: size, SHA256: segment.Sum(h.Sum(nil)), Chunk: chunk}
			target, err := New(Config{Bucket: "bucket", Endpoint: endpoint, Getenv: env("AWS_ACCESS_KEY_ID", "AK", "AWS_SECRET_ACCESS_KEY", "SK")})
			if err != nil {
				b.Fatal(err)
			}
			defer target.Close()

			var ours, theirs time.Duration
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.SetBytes(size)
			b.ResetTimer()
			for range b.N {
				start := cpu(b)
				up, err := target.Open(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				var acks []segment.Ack
				for off := int64(0); off < size; off += chunk {
					c := segment.Chunk{Index: len(acks), Offset: off, Length: min(chunk, size-off)}
					a, err := up.Put(b.Context(), c, io.NewSectionReader(f, c.Offset, c.Length))
					if err != nil {
						b.Fatal(err)
					}
					acks = append(acks, a)
				}
				if _, err := up.Commit(b.Context(), o, acks); err != nil {
					b.Fatal(err)
				}
				ours += cpu(b) - start

				b.StopTimer()
				cmd := exec.Command(curl, "-s", "-S", "-o", os.DevNull, "-T", local, endpoint+"/bucket/curl")
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("curl: %v\n%s", err, out)
				}
				theirs += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				b.StartTimer()
			}
			b.StopTimer()
			runtime.ReadMemStats(&after)
			gb := float64(b.N) * size / 1e9
			b.ReportMetric(ours.Seconds()/gb, "cpu-s/GB")
			b.ReportMetric(theirs.Seconds()/gb, "curl-cpu-s/GB")
			b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-curl")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/1e6, "MB-alloc/op")
		})
	}
}
