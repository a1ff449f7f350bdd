package rig

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// S3 is a real S3 server (versitygw) over a folder, with one bucket.
type S3 struct {
	Endpoint string // "http://127.0.0.1:41234"
	Dir      string // the bucket as a folder: objects are plain files in it
	proc     *Proc
}

// Bucket is the name of the bucket.
const Bucket = "recordings"

// StartS3 starts a server at a free port, or at the given one.
func StartS3(t testing.TB, port ...int) *S3 {
	t.Helper()
	bin := Tool(t, "versitygw")
	p := 0
	if len(port) > 0 {
		p = port[0]
	} else {
		p = FreePort(t)
	}
	s, err := RunS3(bin, t.TempDir(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// RunS3 is StartS3 outside of a test.
func RunS3(bin, dir string, port int) (*S3, error) {
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return nil, err
		}
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	s := &S3{Endpoint: "http://" + addr, Dir: filepath.Join(dir, "root", Bucket)}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	s.proc, err = Run{Bin: bin, Dir: dir, Args: []string{
		"--access", "AK", "--secret", Secret, "--port", addr, "--quiet", "--keep-alive", "posix", filepath.Dir(s.Dir),
	}}.start()
	if err != nil {
		return nil, err
	}
	if err := answers(s.proc, addr); err != nil {
		s.Stop()
		return nil, fmt.Errorf("versitygw: %w", err)
	}
	return s, nil
}

// Stop ends the server; what it stored stays.
func (s *S3) Stop() { s.proc.Kill() }

// Dest is a destination below the bucket, seen through endpoint ("" for the server itself).
func (s *S3) Dest(prefix, endpoint string) string {
	if endpoint == "" {
		endpoint = s.Endpoint
	}
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=us-east-1", Bucket, prefix, endpoint)
}

// Uploads lists multipart uploads that nobody completed or aborted.
func (s *S3) Uploads(t testing.TB) []string {
	t.Helper()
	var out []string
	root := filepath.Join(s.Dir, ".sgwtmp", "multipart")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		rel, _ := filepath.Rel(root, path) // path is below root
		if d.IsDir() && strings.Count(rel, string(filepath.Separator)) == 1 {
			out = append(out, rel)
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// NoUploads fails the test if an upload was left behind.
func (s *S3) NoUploads(t testing.TB) {
	t.Helper()
	end := time.Now().Add(5 * time.Second)
	for {
		left := s.Uploads(t)
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("uploads were left behind: %v", left)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
