package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/pkg/metrics"
	picture "github.com/liverec/liverec/pkg/status"
)

const doorPassword = "correct horse battery"

// doors is a running `liverec serve` with a password, and a browser that is signed in.
type doors struct {
	*rig.Proc
	t    *testing.T
	dir  string
	base string // "http://127.0.0.1:1234"
	c    *http.Client
}

// openDoors starts it, with rooms as they stand in the config file.
func openDoors(t *testing.T, rooms string) *doors {
	t.Helper()
	dir := t.TempDir()
	d := &doors{t: t, dir: dir, base: fmt.Sprintf("http://127.0.0.1:%d", rig.FreePort(t))}
	config := fmt.Sprintf("listen = %q\ndata = \"data\"\n[web]\npassword-file = \"password\"\n[target.archive]\nto = \"file:archive\"\n[defaults]\nto = [\"archive\"]\nsegment = \"10s\"\n%s",
		strings.TrimPrefix(d.base, "http://"), rooms)
	for name, text := range map[string]string{"liverec.toml": config, "password": doorPassword + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	d.c = &http.Client{Jar: jar, Timeout: 30 * time.Second}
	d.Proc = liverec(dir, "serve", "--config", "liverec.toml").Start(t)
	rig.Until(t, 30*time.Second, "the service is ready", func() bool {
		if !d.Alive() {
			t.Fatalf("it ended:\n%s", d.Stderr.String())
		}
		r, err := http.Get(d.base + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	r, err := d.c.PostForm(d.base+"/login", url.Values{"password": {doorPassword}, "next": {"/api/v1/config"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK || r.Request.URL.Path != "/api/v1/config" {
		t.Fatalf("signing in ended at %s with %d", r.Request.URL, r.StatusCode)
	}
	return d
}

// ask asks the API; header is "Key: value". The answer is read into into, if that is not nil.
func (d *doors) ask(method, path, body string, want int, into any, header ...string) string {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.base+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	c := d.c
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
		c = &http.Client{Timeout: 30 * time.Second} // a script has no cookies
	}
	r, err := c.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if r.StatusCode != want {
		d.t.Fatalf("%s %s: %d, wanted %d: %s", method, path, r.StatusCode, want, data)
	}
	if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			d.t.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
	return string(data)
}

// A room is added by the API, recorded, split, seen in the events and in the metrics, and its broadcast shows every proof.
func TestServeAPI(t *testing.T) { // alone: a browser, a fuzzer and dozens of rooms leave the others no time
	_, file := live(t, liveroom.Config{Duration: 40 * time.Second, Bitrate: 1_000_000})
	_, page := live(t, liveroom.Config{Duration: 40 * time.Second, Bitrate: 1_000_000})
	d := openDoors(t, fmt.Sprintf("[[room]]\nurl = %q\nname = \"of the file\"\n", file))

	r, err := http.Get(d.base + "/api/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusUnauthorized {
		t.Errorf("without credentials: %d", r.StatusCode)
	}
	var made struct{ ID, Token string }
	d.ask("POST", "/api/v1/tokens", `{"name":"prometheus","scope":"read"}`, 201, &made)
	token := "Authorization: Bearer " + made.Token
	d.ask("POST", "/api/v1/rooms", fmt.Sprintf(`{"url":%q,"name":"x"}`, page), 403, nil, token)
	d.ask("DELETE", "/api/v1/rooms/of%20the%20file", "", 409, nil)
	d.ask("PATCH", "/api/v1/rooms/of%20the%20file", `{"segment":"20s"}`, 409, nil)
	d.ask("POST", "/api/v1/rooms", `{"url":"gopher://nowhere"}`, 422, nil)

	// Listening before the room is there: it comes as a new picture.
	events := make(chan picture.Status, 256)
	stream, err := http.NewRequestWithContext(t.Context(), "GET", d.base+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	stream.Header.Set("Authorization", "Bearer "+made.Token)
	resp, err := (&http.Client{}).Do(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	go func() { // ends with the body
		defer close(events)
		in := bufio.NewScanner(resp.Body)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			var st picture.Status
			if data, ok := strings.CutPrefix(in.Text(), "data: "); ok && json.Unmarshal([]byte(data), &st) == nil {
				select {
				case events <- st:
				default:
				}
			}
		}
	}()
	// And fifty readers who never read: they cost no frame.
	for range 50 {
		c, err := net.Dial("tcp", strings.TrimPrefix(d.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", made.Token); err != nil {
			t.Fatal(err)
		}
	}
	const name = "päge 1 \"x\" %41?"
	at := "/api/v1/rooms/" + url.PathEscape(name)
	d.ask("POST", "/api/v1/rooms", fmt.Sprintf(`{"url":%q,"name":%q}`, page, name), 201, nil)
	d.ask("POST", "/api/v1/rooms", fmt.Sprintf(`{"url":%q}`, page), 409, nil)
	deadline := time.After(60 * time.Second)
	for seen := false; !seen; {
		select {
		case st := <-events:
			seen = slices.ContainsFunc(st.Rooms, func(r picture.Room) bool {
				return r.Room == name && r.State == picture.OnAir && r.Open != nil && r.Open.Durable > 0
			})
		case <-deadline:
			t.Fatal("no event says that the new room is live")
		}
	}
	d.ask("POST", at+"/split", "", 202, nil)
	var list struct {
		Broadcasts []struct{ Broadcast, Room string }
	}
	var detail struct {
		Parts []struct {
			Cut, Local string
			Deliveries []struct {
				State string
				Proof *struct{ How string }
			}
		}
	}
	rig.Until(t, 60*time.Second, "the part that was split off is proven", func() bool {
		d.ask("GET", "/api/v1/broadcasts?room="+url.QueryEscape(name), "", 200, &list, token)
		if len(list.Broadcasts) != 1 {
			return false
		}
		d.ask("GET", "/api/v1/broadcasts/"+list.Broadcasts[0].Broadcast, "", 200, &detail, token)
		for _, p := range detail.Parts {
			if p.Cut == "split" && len(p.Deliveries) == 1 && p.Deliveries[0].Proof != nil && p.Deliveries[0].Proof.How != "" {
				return true
			}
		}
		return false
	})
	rig.Until(t, 60*time.Second, "the metrics have counted it", func() bool {
		text := d.ask("GET", "/metrics", "", 200, nil, token)
		series := scrape(t, text)
		for _, n := range metrics.Names() {
			never := n == "liverec_capture_gap_seconds_total" || n == "liverec_upload_retries_total" // nothing is told of what never happened
			if !never && !strings.Contains(text, "# TYPE "+n+" ") {
				t.Fatalf("%s is not told:\n%s", n, text)
			}
		}
		return series[fmt.Sprintf("{__name__=\"liverec_received_bytes_total\", room=%q}", name)] > 0 && series[`{__name__="liverec_config_ok"}`] == 1
	})
	var now picture.Status
	d.ask("GET", "/api/v1/status", "", 200, &now, token)
	for _, r := range now.Rooms {
		if r.Gaps > 0 || r.State != picture.OnAir {
			t.Errorf("%s is %s and has %d gaps", r.Room, r.State, r.Gaps)
		}
	}
	d.ask("DELETE", at, "", 204, nil)
	d.ask("GET", at, "", 404, nil)
	d.ask("DELETE", "/api/v1/tokens/"+made.ID, "", 204, nil)
	d.ask("GET", "/metrics", "", 401, nil, token)
	d.Signal(syscall.SIGTERM)
	d.Wait(t, 30*time.Second)
	if out := d.Stdout.String() + d.Stderr.String(); strings.Contains(out, made.Token[3:]) || strings.Contains(out, doorPassword) {
		t.Error("a secret stands in the log")
	}
}

// scrape reads metrics with Prometheus' own parser.
func scrape(t *testing.T, text string) map[string]float64 {
	t.Helper()
	p := textparse.NewPromParser([]byte(text), labels.NewSymbolTable(), false)
	out := map[string]float64{}
	for {
		e, err := p.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("Prometheus does not understand the metrics: %v\n%s", err, text)
		}
		if e == textparse.EntrySeries {
			var l labels.Labels
			p.Labels(&l)
			_, _, v := p.Series()
			if _, twice := out[l.String()]; twice {
				t.Fatalf("%s stands there twice", l)
			}
			out[l.String()] = v
		}
	}
}

// The API is what its description says: a fuzzing client that reads it finds no difference.
func TestSchemathesis(t *testing.T) { // alone: a browser, a fuzzer and dozens of rooms leave the others no time
	st := rig.FindTool("schemathesis")
	if st == "" {
		t.Skip("schemathesis is not installed; `make setup` gets it where python3-venv is")
	}
	d := openDoors(t, "[[room]]\nurl = \"http://127.0.0.1:9/live.flv\"\nname = \"of the file\"\n")
	u, err := url.Parse(d.base)
	if err != nil {
		t.Fatal(err)
	}
	session := d.c.Jar.Cookies(u)[0].Value
	// 422 is said of a setting that the description cannot describe, as that no site knows the address.
	config := fmt.Sprintf("[checks.positive_data_acceptance]\nexpected-statuses = [\"2xx\", \"3xx\", 401, 403, 404, 409, 422, \"5xx\"]\n[auth.openapi.session]\napi_key = %q\n", session)
	for name, text := range map[string]string{"st.toml": config, "openapi.json": d.ask("GET", "/api/v1/openapi.json", "", 200, nil)} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), st, "--config-file", "st.toml", "run", "openapi.json", "-u", d.base, "--checks", "all",
		"--exclude-operation-id", "listen", // it lasts
		"--seed", "1", "-n", "12", "--max-time", "30", "--request-timeout", "30", "--continue-on-failure", "--no-shrink", "--no-color")
	cmd.Dir, cmd.Env = d.dir, append(rig.Env(d.dir), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("schemathesis: %v\n%s", err, out)
	}
	m := regexp.MustCompile(`(\d+) generated, (\d+) passed`).FindSubmatch(out)
	if err == nil && m == nil {
		t.Errorf("schemathesis does not say what it did:\n%s", out)
	}
	t.Logf("%s", bytes.TrimSpace(out[max(0, len(out)-300):]))
	if !d.Alive() || strings.Contains(d.Stderr.String(), "a request met a bug") || strings.Contains(d.Stderr.String(), "a request could not be answered") {
		t.Errorf("the service did not stand it:\n%s", d.Stderr.String())
	}
	d.Signal(syscall.SIGTERM)
	d.Ends(t, 30*time.Second, 0)
}

// known is every metric with the labels that it has, and what Prometheus adds.
func known(t *testing.T) map[string][]string {
	t.Helper()
	in := metrics.Input{ConfigOK: true, Version: "x"}
	in.Status.Rooms = []picture.Room{{Room: "a", State: picture.OnAir}}
	in.Status.Targets = []picture.Target{{Target: "b"}}
	in.Numbers.Rooms = []metrics.Room{{Room: "a", MissingTotal: map[string]float64{"why": 1}}}
	in.Numbers.Targets = []metrics.Target{{Target: "b", RetriesTotal: map[string]int64{"transient": 1}}}
	h, err := metrics.New().Scrape(in)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	out := map[string][]string{"up": {"job", "instance"}}
	p := textparse.NewPromParser(w.Body.Bytes(), labels.NewSymbolTable(), false)
	for {
		e, err := p.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if e != textparse.EntrySeries {
			continue
		}
		var l labels.Labels
		p.Labels(&l)
		names := []string{"job", "instance"}
		l.Range(func(l labels.Label) { names = append(names, l.Name) })
		out[l.Get("__name__")] = names
	}
}

// understands fails the test for each metric or label in an expression that liverec has not.
func understands(t *testing.T, where, expr string, have map[string][]string) {
	t.Helper()
	for _, v := range []string{"$__rate_interval", "$__interval", "$__range"} {
		expr = strings.ReplaceAll(expr, v, "5m")
	}
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %q: %v", where, expr, err)
		return
	}
	asked := 0
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			asked++
			names, ok := have[n.Name]
			if !ok {
				t.Errorf("%s: there is no metric %s", where, n.Name)
				return nil
			}
			for _, m := range n.LabelMatchers {
				if !slices.Contains(names, m.Name) && m.Name != labels.MetricName {
					t.Errorf("%s: %s has no label %s", where, n.Name, m.Name)
				}
			}
		case *parser.AggregateExpr:
			for _, g := range n.Grouping {
				if !slices.ContainsFunc(selectors(n.Expr), func(name string) bool { return slices.Contains(have[name], g) }) {
					t.Errorf("%s: nothing in %s has the label %s", where, n, g)
				}
			}
		}
		return nil
	})
	if asked == 0 {
		t.Errorf("%s: %q asks for nothing", where, expr)
	}
}

func selectors(e parser.Expr) (out []string) {
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			out = append(out, v.Name)
		}
		return nil
	})
	return out
}

// The alert rules are understood by Prometheus, ask only for what liverec tells, and name the labels that they have.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	groups, errs := rulefmt.ParseFile("../deploy/prometheus/liverec.rules.yml", false, model.UTF8Validation, parser.NewParser(parser.Options{}), nil)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	have, n := known(t), 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			n++
			understands(t, r.Alert, r.Expr, have)
			if s := r.Labels["severity"]; s != "page" && s != "ticket" {
				t.Errorf("%s has the severity %q", r.Alert, s)
			}
			text := r.Annotations["summary"] + r.Annotations["description"]
			if r.Annotations["summary"] == "" {
				t.Errorf("%s says nothing", r.Alert)
			}
			for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if e, err := parser.NewParser(parser.Options{}).ParseExpr(r.Expr); err != nil || !slices.Contains(resultLabels(e, have), m[1]) {
					t.Errorf("%s speaks of the label %s, which its result has not", r.Alert, m[1])
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("%d rules", n)
	}
	var scrapes struct {
		RuleFiles []string `yaml:"rule_files"`
		Jobs      []struct {
			Name string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	b, err := os.ReadFile("../deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &scrapes); err != nil || len(scrapes.Jobs) != 1 || scrapes.Jobs[0].Name != "liverec" {
		t.Errorf("prometheus.yml: %v %+v", err, scrapes)
	}
	for _, f := range scrapes.RuleFiles {
		if !exists(filepath.Join("../deploy/prometheus", f)) {
			t.Errorf("prometheus.yml names %s, which is not there", f)
		}
	}
}

// resultLabels are those of the left side of an expression.
func resultLabels(e parser.Expr, have map[string][]string) []string {
	switch e := e.(type) {
	case *parser.AggregateExpr:
		return e.Grouping
	case *parser.BinaryExpr:
		return resultLabels(e.LHS, have)
	case *parser.ParenExpr:
		return resultLabels(e.Expr, have)
	case *parser.Call:
		return resultLabels(e.Args[0], have)
	case *parser.MatrixSelector:
		return resultLabels(e.VectorSelector, have)
	case *parser.VectorSelector:
		return have[e.Name]
	}
	return nil
}

// Every panel of the dashboard asks for what there is.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../deploy/grafana/liverec.json")
	if err != nil {
		t.Fatal(err)
	}
	var dash struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(b, &dash); err != nil {
		t.Fatal(err)
	}
	have, asked, ids := known(t), string(b), map[int]bool{}
	for _, p := range dash.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 || p.Title == "" {
			t.Errorf("panel %d %q is not sound", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			understands(t, p.Title, q.Expr, have)
		}
	}
	for name := range have { // and nothing that the contract names is left out
		if strings.HasPrefix(name, "liverec_") && !strings.Contains(asked, name) && name != "liverec_room_bitrate_bits" {
			t.Errorf("no panel shows %s", name)
		}
	}
}
