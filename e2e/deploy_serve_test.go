package e2e

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// runs starts a service with a config file of deploy/, its folders and secrets in dir, and asks it as a probe would.
func runs(t *testing.T, text string, probes ...string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		`"/run/credentials/liverec\.service/password"|"/run/secrets/liverec(/password)?"`: `"password"`,
		`"/data/liverec"`: `"data"`, `"file:/[a-z/]+"|"s3://[^"]+"`: `"file:archive"`, `"[0-9.]+:8420"`: `"127.0.0.1:0"`,
		`https://live\.example\.com`: "http://127.0.0.1:1",
	} {
		text = regexp.MustCompile(from).ReplaceAllString(text, to)
	}
	if strings.Contains(regexp.MustCompile(`(?m)^#.*`).ReplaceAllString(text, ""), `"/`) {
		t.Fatalf("a path of the example is not in the test's folder:\n%s", text)
	}
	if err := os.WriteFile(filepath.Join(dir, "liverec.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	check := liverec(dir, "serve", "--check", "liverec.toml").Start(t)
	check.Ends(t, 10*time.Second, 0)
	p := liverec(dir, "serve", "--log-format", "json").Start(t)
	addr := regexp.MustCompile(`"page":"(http://[0-9.:]+)`)
	rig.Until(t, 30*time.Second, "the service runs", func() bool { return addr.MatchString(p.Stderr.String()) })
	base := addr.FindStringSubmatch(p.Stderr.String())[1]
	for _, path := range probes {
		rig.Until(t, 30*time.Second, path+" answers well", func() bool {
			res, err := http.Get(base + path)
			if err != nil {
				return false
			}
			defer res.Body.Close()
			return res.StatusCode == http.StatusOK
		})
	}
	live := liverec(dir, "doctor", "--live", "--data", map[bool]string{true: "data", false: "liverec-data"}[strings.Contains(text, "\ndata")]).Start(t)
	live.Ends(t, 10*time.Second, 0)
	p.Signal(syscall.SIGTERM)
	p.Ends(t, 30*time.Second, 0)
}

func file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// settings reads a unit.
func settings(t *testing.T, unit string) (one func(key string) string, all map[string][]string) {
	t.Helper()
	all = map[string][]string{}
	section := ""
	for line := range strings.Lines(unit) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = line
		default:
			k, v, ok := strings.Cut(line, "=")
			if !ok || section == "" {
				t.Errorf("no setting: %q", line)
			}
			all[section+k] = append(all[section+k], v)
		}
	}
	return func(key string) string {
		if v := all[key]; len(v) == 1 {
			return v[0]
		}
		t.Errorf("%s: %v", key, all[key])
		return ""
	}, all
}

func TestServiceUnit(t *testing.T) {
	t.Parallel()
	unit := file(t, "liverec.service")
	one, all := settings(t, unit)
	for _, key := range []string{"[Service]ExecStart", "[Service]ExecStartPre"} {
		words := strings.Fields(one(key))
		var variables []string
		for _, e := range all["[Service]Environment"] {
			k, _, _ := strings.Cut(e, "=")
			variables = append(variables, k)
		}
		if words[0] != "/usr/local/bin/liverec" || words[1] != "serve" {
			t.Errorf("%s: %v", key, words)
		}
		uses(t, key, words[1:], variables)
	}
	if one("[Service]Type") != "notify" || one("[Service]WatchdogSec") != "60" || one("[Service]Restart") != "always" || one("[Service]SuccessExitStatus") != "3" || one("[Service]RestartPreventExitStatus") != "2" {
		t.Error("the service manager is not told what it has to know")
	}
	// Both units are as tight as one another.
	_, tight := settings(t, file(t, "liverec@.service"))
	for _, key := range []string{"DynamicUser", "NoNewPrivileges", "CapabilityBoundingSet", "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictAddressFamilies", "SystemCallFilter", "MemoryDenyWriteExecute", "UMask"} {
		if k := "[Service]" + key; len(all[k]) == 0 || !slices.Equal(all[k], tight[k]) {
			t.Errorf("%s is %v, and %v for one room", key, all[k], tight[k])
		}
	}
	name := strings.TrimPrefix(strings.Split(one("[Service]LoadCredential"), ":")[0], " ")
	if !strings.Contains(file(t, "liverec.toml"), "/run/credentials/liverec.service/"+name+`"`) {
		t.Errorf("the config does not use the credential %s", name)
	}
	runs(t, file(t, "liverec.toml"))
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return // the checks above stand by themselves
	}
	copied := filepath.Join(t.TempDir(), "liverec.service")
	if err := os.WriteFile(copied, []byte(strings.ReplaceAll(unit, "/usr/local/bin/liverec", binary)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", copied).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func TestComposeServe(t *testing.T) {
	t.Parallel()
	var c struct {
		Name     string `yaml:"name"`
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
			Ports       []string          `yaml:"ports"`
			Ulimits     map[string]int    `yaml:"ulimits"`
			Environment map[string]string `yaml:"environment"`
			Volumes     []string          `yaml:"volumes"`
			Secrets     []string          `yaml:"secrets"`
			Health      struct {
				Test     []string `yaml:"test"`
				Interval string   `yaml:"interval"`
				Timeout  string   `yaml:"timeout"`
				Start    string   `yaml:"start_period"`
				Retries  int      `yaml:"retries"`
			} `yaml:"healthcheck"`
		} `yaml:"services"`
		Volumes map[string]any               `yaml:"volumes"`
		Secrets map[string]map[string]string `yaml:"secrets"`
	}
	dec := yaml.NewDecoder(strings.NewReader(file(t, "compose.serve.yaml")))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	s := c.Services["liverec"]
	uses(t, "compose.serve.yaml", s.Command, []string{"LIVEREC_DATA"})
	if h := s.Health.Test; len(h) < 3 || h[0] != "CMD" || h[1] != "/liverec" {
		t.Errorf("health check: %v", h)
	} else {
		uses(t, "health check", h[2:], nil)
	}
	if !s.ReadOnly || s.User == "" || !slices.Contains(s.CapDrop, "ALL") || len(s.Security) == 0 || !strings.HasPrefix(s.Ports[0], "127.0.0.1:") {
		t.Errorf("not as tight as it could be: %+v", s)
	}
	if d, err := time.ParseDuration(s.Grace); err != nil || d < 30*time.Second {
		t.Errorf("stop_grace_period %q", s.Grace)
	}
	for _, v := range s.Volumes {
		from, to, _ := strings.Cut(v, ":")
		if _, ok := c.Volumes[from]; !ok && to != "/etc/liverec:ro" {
			t.Errorf("volume %s is not declared", from)
		}
	}
	for _, name := range s.Secrets {
		if _, ok := c.Secrets[name]; !ok || !strings.Contains(file(t, "serve/liverec.toml"), `"/run/secrets/`+name+`"`) {
			t.Errorf("secret %s is not declared, or not used", name)
		}
	}
	runs(t, file(t, "serve/liverec.toml"), "/healthz", "/readyz")
	if docker := file(t, "../Dockerfile"); !strings.Contains(docker, `CMD ["/liverec", "doctor", "--live"]`) || !strings.Contains(docker, "EXPOSE 8420") {
		t.Error("the image has no health check, or another port")
	}
}

type object struct {
	API      string `yaml:"apiVersion"`
	Kind     string `yaml:"kind"`
	Metadata struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Data map[string]string `yaml:"data"`
	Spec struct {
		Service  string           `yaml:"serviceName"`
		Replicas int              `yaml:"replicas"`
		Selector any              `yaml:"selector"`
		Ports    []map[string]any `yaml:"ports"`
		Claims   []object         `yaml:"volumeClaimTemplates"`
		Access   []string         `yaml:"accessModes"`
		Resource map[string]any   `yaml:"resources"`
		Template struct {
			Metadata struct {
				Labels map[string]string `yaml:"labels"`
			} `yaml:"metadata"`
			Spec struct {
				Token      *bool            `yaml:"automountServiceAccountToken"`
				Links      *bool            `yaml:"enableServiceLinks"`
				Grace      int              `yaml:"terminationGracePeriodSeconds"`
				Security   map[string]any   `yaml:"securityContext"`
				Volumes    []map[string]any `yaml:"volumes"`
				Containers []struct {
					Name     string           `yaml:"name"`
					Image    string           `yaml:"image"`
					Args     []string         `yaml:"args"`
					Ports    []map[string]any `yaml:"ports"`
					Env      []map[string]any `yaml:"envFrom"`
					Security map[string]any   `yaml:"securityContext"`
					Startup  probeSpec        `yaml:"startupProbe"`
					Live     probeSpec        `yaml:"livenessProbe"`
					Ready    probeSpec        `yaml:"readinessProbe"`
					Resource map[string]any   `yaml:"resources"`
					Mounts   []struct {
						Name     string `yaml:"name"`
						Path     string `yaml:"mountPath"`
						ReadOnly bool   `yaml:"readOnly"`
					} `yaml:"volumeMounts"`
				} `yaml:"containers"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

type probeSpec struct {
	Get struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
	Period  int `yaml:"periodSeconds"`
	Timeout int `yaml:"timeoutSeconds"`
	Fails   int `yaml:"failureThreshold"`
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	kinds := map[string]object{}
	dec := yaml.NewDecoder(strings.NewReader(file(t, "kubernetes.yaml")))
	dec.KnownFields(true)
	for {
		var o object
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds[o.Kind] = o
	}
	set := kinds["StatefulSet"]
	pod := set.Spec.Template.Spec
	if len(pod.Containers) != 1 || set.Spec.Replicas != 1 || set.Spec.Service != kinds["Service"].Metadata.Name {
		t.Fatalf("the set is %+v", set.Spec)
	}
	c := pod.Containers[0]
	uses(t, "kubernetes.yaml", c.Args, nil)
	if pod.Token == nil || *pod.Token || pod.Security["runAsNonRoot"] != true || c.Security["readOnlyRootFilesystem"] != true || c.Security["allowPrivilegeEscalation"] != false || pod.Grace < 30 {
		t.Errorf("not as tight as it could be: %+v %+v", pod.Security, c.Security)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v["name"].(string)] = true
	}
	for _, v := range set.Spec.Claims {
		volumes[v.Metadata.Name] = true
	}
	mounted := map[string]string{}
	for _, m := range c.Mounts {
		if !volumes[m.Name] {
			t.Errorf("volume %s is not declared", m.Name)
		}
		mounted[m.Path] = m.Name
	}
	conf := kinds["ConfigMap"].Data["liverec.toml"]
	if mounted["/etc/liverec"] == "" || mounted["/data"] == "" || mounted["/run/secrets/liverec"] == "" || !strings.Contains(conf, `"/data/`) || !strings.Contains(conf, `"/run/secrets/liverec/password"`) ||
		!strings.Contains(conf, ":8420") || c.Ports[0]["containerPort"] != 8420 {
		t.Errorf("the config and what is mounted do not agree: %v\n%s", mounted, conf)
	}
	var paths []string
	for _, p := range []probeSpec{c.Startup, c.Live, c.Ready} {
		if p.Get.Port != c.Ports[0]["name"] {
			t.Errorf("probe of port %s", p.Get.Port)
		}
		paths = append(paths, p.Get.Path)
	}
	runs(t, conf, paths...)
}

// The back-up that docs/deploy.md tells of: the ledger alone, in another folder, knows everything and can ask the targets.
func TestBackUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, url := live(t, liveroom.Config{Duration: 6 * time.Second})
	p := liverec(dir, "record", url, "--once", "--to", "file:archive", "--data", "data").Start(t)
	p.Ends(t, after(6*time.Second), 0)
	b, err := os.ReadFile(filepath.Join(dir, "data", "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "restored"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "restored", "ledger.db"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	var st struct {
		Rooms []struct {
			Broadcast string `json:"broadcast"`
		} `json:"rooms"`
	}
	rig.JSON(t, liverec(dir, "status", "--json", "--data", "restored"), 0, &st)
	if len(st.Rooms) != 1 || st.Rooms[0].Broadcast == "" {
		t.Fatalf("the restored ledger knows %+v", st)
	}
	v := liverec(dir, "verify", st.Rooms[0].Broadcast, "--data", "restored").Start(t)
	v.Ends(t, 30*time.Second, 0)
	r := liverec(dir, "resume", "--data", "restored").Start(t)
	r.Ends(t, 30*time.Second, 0)
}
