package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// flags are the flags that a command says it has.
func flags(t *testing.T, command string) []string {
	t.Helper()
	p := liverec(t.TempDir(), command, "--help").Start(t)
	p.Ends(t, 5*time.Second, 0)
	return regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(p.Stdout.String(), -1)
}

// uses fails the test for each word that looks like a flag or a variable of ours and is none.
func uses(t *testing.T, where string, words, variables []string) {
	t.Helper()
	known := flags(t, words[0])
	for _, w := range words {
		if name, _, _ := strings.Cut(w, "="); strings.HasPrefix(name, "--") && !slices.Contains(known, name) {
			t.Errorf("%s: %s is not a flag of %s", where, name, words[0])
		}
	}
	for _, v := range variables {
		if rest, ok := strings.CutPrefix(v, "LIVEREC_"); ok {
			name := "--" + strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
			if !slices.Contains(known, name) {
				t.Errorf("%s: %s stands for %s, which is not a flag of %s", where, v, name, words[0])
			}
		}
	}
}

func TestCompose(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Image       string            `yaml:"image"`
			Build       map[string]string `yaml:"build"`
			Restart     string            `yaml:"restart"`
			User        string            `yaml:"user"`
			ReadOnly    bool              `yaml:"read_only"`
			CapDrop     []string          `yaml:"cap_drop"`
			Security    []string          `yaml:"security_opt"`
			Grace       string            `yaml:"stop_grace_period"`
			Command     []string          `yaml:"command"`
			Environment map[string]string `yaml:"environment"`
			Volumes     []string          `yaml:"volumes"`
			Secrets     []string          `yaml:"secrets"`
		} `yaml:"services"`
		Volumes  map[string]any               `yaml:"volumes"`
		Secrets  map[string]map[string]string `yaml:"secrets"`
		Name     string                       `yaml:"name"`
		Streamer any                          `yaml:"x-streamer"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if len(file.Services) < 2 {
		t.Errorf("%d services", len(file.Services))
	}
	data := map[string]string{}
	for name, s := range file.Services {
		var variables []string
		for k := range s.Environment {
			variables = append(variables, k)
		}
		uses(t, name, s.Command, variables)
		if !s.ReadOnly || s.User == "" || s.Restart == "" || !slices.Contains(s.CapDrop, "ALL") || len(s.Security) == 0 {
			t.Errorf("%s is not as tight as it could be: %+v", name, s)
		}
		if d, err := time.ParseDuration(s.Grace); err != nil || d < 25*time.Second {
			t.Errorf("%s: stop_grace_period %q is less than what a stop may take", name, s.Grace)
		}
		for _, v := range s.Volumes {
			from, to, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[from]; !ok {
				t.Errorf("%s: volume %s is not declared", name, from)
			}
			if to == "/data" {
				if other, ok := data[from]; ok {
					t.Errorf("%s and %s share the data volume %s", name, other, from)
				}
				data[from] = name
			}
		}
		for _, v := range s.Secrets {
			if _, ok := file.Secrets[v]; !ok {
				t.Errorf("%s: secret %s is not declared", name, v)
			}
		}
		// The destinations are taken: the folder refuses only because nobody may write to /archive here.
		r := liverec(t.TempDir(), append(slices.Clone(s.Command), "--log-level", "nonsense")...)
		for k, v := range s.Environment {
			r.Env = append(r.Env, k+"="+v)
		}
		p := r.Start(t)
		p.Ends(t, 5*time.Second, 2)
		if !strings.Contains(p.Stderr.String(), "--log-level") {
			t.Errorf("%s: %s", name, p.Stderr.String())
		}
	}
	if len(data) != len(file.Services) {
		t.Errorf("%d data volumes for %d services", len(data), len(file.Services))
	}
}

func TestUnit(t *testing.T) {
	t.Parallel()
	name, err := filepath.Abs("../deploy/liverec@.service")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	section, keys := "", map[string][]string{}
	for in := bufio.NewScanner(bytes.NewReader(b)); in.Scan(); {
		line := strings.TrimSpace(in.Text())
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = line
		default:
			k, v, ok := strings.Cut(line, "=")
			if !ok || section == "" {
				t.Errorf("no setting: %q", line)
			}
			keys[section+k] = append(keys[section+k], v)
		}
	}
	one := func(key string) string {
		if v := keys[key]; len(v) == 1 {
			return v[0]
		}
		t.Errorf("%s: %v", key, keys[key])
		return ""
	}
	words := strings.Fields(one("[Service]ExecStart"))
	if words[0] != "/usr/local/bin/liverec" {
		t.Errorf("starts %s", words[0])
	}
	var variables []string
	for _, e := range keys["[Service]Environment"] {
		k, _, _ := strings.Cut(e, "=")
		variables = append(variables, k)
	}
	uses(t, name, words[1:], variables)
	if one("[Service]Restart") != "always" || one("[Service]SuccessExitStatus") != "3" || one("[Service]RestartPreventExitStatus") != "2" || one("[Service]TimeoutStopSec") != "40" {
		t.Error("the exit statuses of the contract are not followed")
	}
	if one("[Service]DynamicUser") != "yes" || one("[Service]ProtectSystem") != "strict" || one("[Install]WantedBy") == "" {
		t.Error("not hardened")
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // the checks above stand by themselves
	}
	// It wants to see the program that the unit starts.
	text := strings.ReplaceAll(string(b), "/usr/local/bin/liverec", binary)
	copied := filepath.Join(t.TempDir(), "liverec@.service")
	if err := os.WriteFile(copied, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "verify", copied).CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// The Dockerfile and the ignore file agree with the folders that the program is built from.
func TestDockerfileCopiesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-C", "..", "-deps", "-f", "{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}", "./cmd/liverec").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		top, _, _ := strings.Cut(strings.TrimPrefix(pkg, "github.com/liverec/liverec/"), "/")
		if !strings.Contains(string(b), "\n!"+top+"\n") {
			t.Errorf("%s is needed but ignored", top)
		}
	}
}
