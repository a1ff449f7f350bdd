//go:build image

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// TestImage builds the Dockerfile with buildah, which needs no engine, over a base image that is made from this
// machine's own Go, and runs what comes out as a user who is nobody, on a read-only root with two volumes.
func TestImage(t *testing.T) {
	bin := rig.Tool(t, "buildah")
	work := t.TempDir()
	buildah := func(args ...string) string {
		t.Helper()
		all := append([]string{"--root", filepath.Join(work, "store"), "--runroot", filepath.Join(work, "run"), "--storage-driver", "vfs"}, args...)
		for try := 1; ; try++ {
			cmd := exec.CommandContext(t.Context(), bin, all...)
			cmd.Env = append(os.Environ(), "BUILDAH_ISOLATION=chroot", "STORAGE_DRIVER=vfs")
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err == nil {
				return strings.TrimSpace(string(out))
			}
			// Before it does anything it copies itself into memory and seals the copy, which the kernel now and then refuses.
			if try == 5 || !strings.Contains(errs.String(), "sealing memfd copy") {
				t.Fatalf("buildah %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
			}
			t.Logf("buildah %s could not seal its copy", args[0])
		}
	}
	policy := filepath.Join(work, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}

	// The base: a shell and two programs for the RUN lines, CA certificates, and places for Go and the modules of this
	// machine, which are mounted (to copy them costs minutes).
	goroot, modules, cache := goEnv(t, "GOROOT"), goEnv(t, "GOMODCACHE"), goEnv(t, "GOCACHE")
	shell(t, "go", "-C", "..", "mod", "download")
	base := buildah("from", "--signature-policy", policy, "scratch")
	root := buildah("mount", base)
	for _, d := range []string{"usr/local/go", "tmp", "root/.cache/go-build", "etc/ssl/certs", "go/pkg/mod"} {
		folder(t, root, d)
	}
	for _, p := range []string{"sh", "mkdir", "chmod"} {
		install(t, root, p)
	}
	shell(t, "cp", "-L", "/etc/ssl/certs/ca-certificates.crt", filepath.Join(root, "etc/ssl/certs/"))
	buildah("umount", base)
	buildah("config", "--env", "PATH=/usr/local/go/bin:/bin", "--env", "GOPATH=/go", "--env", "GOTOOLCHAIN=local",
		"--env", "GOPROXY=off", "--env", "GOCACHE=/root/.cache/go-build", base)
	buildah("commit", "--quiet", "--signature-policy", policy, "--rm", base, "localhost/liverec-base")

	buildah("bud", "--quiet", "--signature-policy", policy, "--network", "none",
		"--volume", goroot+":/usr/local/go:ro", "--volume", modules+":/go/pkg/mod:rw", "--volume", cache+":/root/.cache/go-build:rw",
		"--build-arg", "BASE=localhost/liverec-base", "--build-arg", "VERSION=image-test", "--build-arg", "COMMIT=abc",
		"--tag", "localhost/liverec", "--file", "../Dockerfile", "..")

	var image struct {
		OCIv1 struct {
			Config struct {
				User       string
				Env        []string
				Entrypoint []string
				Volumes    map[string]any
			} `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(buildah("inspect", "--type", "image", "localhost/liverec")), &image); err != nil {
		t.Fatal(err)
	}
	c := image.OCIv1.Config
	if c.User != "65532:65532" || len(c.Entrypoint) != 1 || c.Entrypoint[0] != "/liverec" || len(c.Volumes) != 2 || !slices.Contains(c.Env, "LIVEREC_DATA=/data") {
		t.Errorf("%+v", c)
	}

	container := buildah("from", "--signature-policy", policy, "localhost/liverec")
	root = buildah("mount", container)
	var files []string
	for _, f := range rig.Files(t, root) {
		if !regexp.MustCompile(`^(proc|sys|dev|run)/|^etc/(hosts|resolv\.conf|hostname)$`).MatchString(f) {
			files = append(files, f)
		}
	}
	if got := strings.Join(files, " "); got != "etc/ssl/certs/ca-certificates.crt liverec" {
		t.Errorf("the image holds %s", got)
	}
	if out, err := exec.CommandContext(t.Context(), "ldd", filepath.Join(root, "liverec")).CombinedOutput(); err == nil {
		t.Errorf("not static:\n%s", out)
	}

	if out := buildah("run", "--user", "12345:12345", container, "/liverec", "version"); !strings.Contains(out, "image-test") || !strings.Contains(out, "abc") {
		t.Errorf("version in the image: %s", out)
	}
	if os.Geteuid() != 0 {
		return // what follows mounts
	}

	// Read-only root, two volumes that belong to root with the mode that the image gives them, another user.
	room, url := live(t, liveroom.Config{Duration: 12 * time.Second})
	data, archive := filepath.Join(work, "data"), filepath.Join(work, "archive")
	for _, d := range []string{data, archive} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(root, filepath.Base(d)))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, info.Mode().Perm()|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`set -e
mount --bind %[1]s %[1]s
mount -o remount,ro,bind %[1]s
mount --bind %[2]s %[1]s/data
mount --bind %[3]s %[1]s/archive
exec chroot --userspec=12345:12345 --groups= %[1]s /liverec "$@"`, root, data, archive)
	r := rig.Run{Bin: rig.Tool(t, "unshare"), Dir: "/", Args: []string{"--mount", "sh", "-c", script, "sh",
		"record", url, "--once", "--to", "/archive", "--segment", "5s"}, Env: c.Env}
	p := r.Start(t)
	p.Ends(t, after(12*time.Second), 0)
	rec := rig.Read(t, archive)
	rec.Once(t, rig.Sent(room.Connections(), nil))
	rec.Admits(t, 0)
	rig.Empty(t, data)
	buildah("umount", container)
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func shell(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// install copies a program of this machine and the libraries that it needs.
func install(t *testing.T, root, program string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	folder(t, root, "bin")
	shell(t, "cp", "-L", path, filepath.Join(root, "bin", program))
	for _, lib := range regexp.MustCompile(`/[^ ]+\.so[^ ]*`).FindAllString(shell(t, "ldd", path), -1) {
		folder(t, root, filepath.Dir(lib))
		shell(t, "cp", "-L", lib, filepath.Join(root, lib))
	}
}
