package s3

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"go.uber.org/goleak"

	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
)

func TestMain(m *testing.M) {
	if os.Getenv("LIVEREC_S3_SINK") != "" {
		sink()
		return
	}
	minio.DefaultRetryUnit = time.Millisecond // it sleeps for up to 200 ms after each failure, also when it is not to retry
	goleak.VerifyTestMain(m)
}

func (f *fake) env(change ...func(*Config)) targettest.Env {
	return targettest.Env{
		New: func(t *testing.T) uploader.Target { return f.target(t, change...) },
		Read: func(_ *testing.T, key string) ([]byte, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			o := f.objects["live/"+key]
			if o == nil {
				return nil, fmt.Errorf("read %s: %w", key, fs.ErrNotExist)
			}
			return o.data, nil
		},
		Pending: func(*testing.T) int {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.uploads)
		},
		Lose: func(_ *testing.T, key string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.objects, "live/"+key)
		},
		Unreachable: unreachable,
		Many:        8,
	}
}

// unreachable is a port that nobody listens on.
func unreachable(t *testing.T) uploader.Target {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	target, err := New(Config{Bucket: "bucket", Prefix: "live", Endpoint: "http://" + addr, Getenv: env("AWS_ACCESS_KEY_ID", "AK", "AWS_SECRET_ACCESS_KEY", "SK")})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestConformance(t *testing.T) {
	damage := func(f *fake) func(*testing.T, string) {
		return func(_ *testing.T, key string) { // at rest: the store does not know
			f.mu.Lock()
			defer f.mu.Unlock()
			o := f.objects["live/"+key]
			o.data[len(o.data)/2] ^= 1
		}
	}
	for _, c := range []struct {
		name   string
		ways   func(*fake)
		reread bool
	}{
		{"strict", func(*fake) {}, false},
		{"knows no checksums, lists in pages of 2", func(f *fake) { f.noChecksums, f.page = true, 2 }, false},
		{"refuses what it does not know", func(f *fake) { f.rejects, f.noChecksums = true, true }, false},
		{"no checksums and no MD5, verify=read", func(f *fake) { f.noChecksums, f.encrypts = true, true }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they mostly wait for minio-go, which sleeps a little after each failure
			targettest.Run(t, func(t *testing.T) targettest.Env {
				f := newFake(t)
				c.ways(f)
				e := f.env(func(cfg *Config) { cfg.Reread = c.reread })
				if c.reread {
					e.Damage = damage(f)
				}
				return e
			})
		})
	}
}

// versitygw starts a real S3 server over a folder. It is skipped where there is none, unless LIVEREC_NEED_TOOLS is set.
func versitygw(t *testing.T) (endpoint, dir string) {
	t.Helper()
	bin := os.Getenv("LIVEREC_VERSITYGW")
	if bin == "" {
		found, err := exec.LookPath("versitygw")
		if err != nil {
			if os.Getenv("LIVEREC_NEED_TOOLS") == "1" {
				t.Fatal("versitygw is not installed and LIVEREC_NEED_TOOLS=1")
			}
			t.Skip("versitygw is not installed")
		}
		bin = found
	}
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "versitygw.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--access", "AK", "--secret", "SK", "--port", addr, "posix", dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return "http://" + addr, dir
		}
		if time.Now().After(deadline) {
			out, _ := os.ReadFile(log.Name())
			t.Fatalf("versitygw does not listen: %v\n%s", err, out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func realTarget(t *testing.T, endpoint string, change ...func(*Config)) *Target {
	t.Helper()
	cfg := Config{Bucket: "bucket", Prefix: "live", Endpoint: endpoint, Getenv: env("AWS_ACCESS_KEY_ID", "AK", "AWS_SECRET_ACCESS_KEY", "SK")}
	for _, c := range change {
		c(&cfg)
	}
	target, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

// emptyBucket clears the real server between cases.
func emptyBucket(t *testing.T, target *Target) {
	t.Helper()
	c := target.client.Load().core
	ctx := context.Background()
	for o := range c.Client.ListObjects(ctx, "bucket", minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if err := c.RemoveObject(ctx, "bucket", o.Key, minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for u := range c.ListIncompleteUploads(ctx, "bucket", "", true) {
		if u.Err != nil {
			t.Fatal(u.Err)
		}
		if err := c.AbortMultipartUpload(ctx, "bucket", u.Key, u.UploadID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConformanceVersityGW(t *testing.T) {
	t.Parallel()
	endpoint, dir := versitygw(t)
	targettest.Run(t, func(t *testing.T) targettest.Env {
		emptyBucket(t, realTarget(t, endpoint))
		side := realTarget(t, endpoint).client.Load().core // asks beside the target
		return targettest.Env{
			New: func(t *testing.T) uploader.Target { return realTarget(t, endpoint) },
			Read: func(_ *testing.T, key string) ([]byte, error) {
				return os.ReadFile(filepath.Join(dir, "bucket", "live", filepath.FromSlash(key)))
			},
			Pending: func(t *testing.T) int {
				list, err := side.ListMultipartUploads(t.Context(), "bucket", "", "", "", "", 1000)
				if err != nil {
					t.Fatal(err)
				}
				return len(list.Uploads)
			},
			Lose: func(t *testing.T, key string) {
				if err := side.RemoveObject(t.Context(), "bucket", "live/"+key, minio.RemoveObjectOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			Unreachable: unreachable,
			Many:        3,
		}
	})
}
