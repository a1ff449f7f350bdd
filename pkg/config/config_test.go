package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/naming"
)

// The example of the contract.
const example = `
listen   = "127.0.0.1:8420"
data     = "/var/lib/liverec"
timezone = "Asia/Shanghai"
limit-rate = "08:00,20M 23:00,off"

[web]
password-file = "password"      # must be set for any address but loopback

[target.archive]
to = "s3://bucket/live?endpoint=https://s3.example.com"
[target.bili]
to = "bilibili:?cookies=/etc/liverec/cookies.json&tid=171&tag=live"

[defaults]
to = ["archive"]
segment = "15m"

[[room]]
url = "https://live.bilibili.com/1"
name = "alice"
to = ["archive", "bili"]
title = "{streamer} {title} {date}"
window = "18:00-02:00"                      # record only then
skip-titles = ["rerun"]
priority = 10                               # the last to be paused when the disk runs short

[[notify]]
url = "telegram://123:abc@telegram?chats=@me"
on = ["broadcast", "trouble"]

[[hook]]
on = "part.safe"
run = ["/bin/true"]
`

func write(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{"password": "correct horse\n", "telegram": "telegram://1:a@telegram?chats=2\n", "liverec.toml": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "liverec.toml")
}

func TestTheExampleOfTheContract(t *testing.T) {
	file := write(t, example)
	c, err := Load(file, Checks{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Zone.String() != "Asia/Shanghai" || c.Data != "/var/lib/liverec" || c.Web.Password.Reveal() != "correct horse" || len(c.Targets) != 2 {
		t.Errorf("the top is %+v", c)
	}
	if at := time.Date(2026, 1, 1, 9, 0, 0, 0, c.Zone); c.LimitRate.At(at) != 20e6 {
		t.Errorf("the rate at nine is %v", c.LimitRate.At(at))
	}
	r := c.Rooms[0]
	if r.Name != "alice" || r.Segment != 15*time.Minute || strings.Join(r.To, " ") != "archive bili" || r.Priority != 10 || r.Window.String() != "18:00-02:00" || r.MaxSize != 4<<30 {
		t.Errorf("the room is %+v", r)
	}
	if c.Notify[0].Name != "telegram" || c.Hooks[0].Run[0] != "/bin/true" || c.Hooks[0].Timeout != time.Minute {
		t.Errorf("notify %+v, hook %+v", c.Notify, c.Hooks)
	}
}

// Each error says where, what, and what would be right: testdata/errors.txt, renewed with -update.
func TestI11_ErrorsNameThePlaceAndTheCure(t *testing.T) {
	const room = "[[room]]\nurl = \"http://h/live.flv\"\n"
	var b strings.Builder
	for _, text := range []string{
		"listen = 5", "[[room]]\nurl = 3", room + "segment = 15", room + "segment = \"15\"", room + "segment = \"0.1s\"", room + "max-size = \"1\"", room + "quality = 720",
		"sement = \"1m\"", "window = \"1:00-2:00\"", "segment = \"15m\"", "[defaults]\nonce = true", "strict = true", room + "keep = \"1h\"", "[rooms]\nx = 1", "[[room]\n",
		room + "to = [\"archiv\"]", room + "to = [\"s3://key:pass@bucket/x?endpoint=http://h\"]", room + "to = []", room + "to = \"archive\"",
		"a = 1\na = 2", "[room]\nurl=\"x\"", "listen = \"0.0.0.0:80\"", "listen = \"here:80\"", "listen = \":http\"", "[[target]]\nto=\"x\"", "[target]\nto=\"x\"",
		"target = {a = {to = \"x\", required = false}}", "[target.a]\nto = \"/a?required=false\"\n[target.b]\nto = \"/b?required=false\"\n" + room + "to = [\"b\"]\n",
		"[target.a]\nto = \"/a\"\n[target.b]\nto = \"/a\"", "[target.a]\nto = \"/a\"\n[target.b]\nto = \"/b?required=false\"\n" + room + "to = [\"b\"]",
		"[target.a]\nto = \"sftp:x\"", "[target.a]", "target = {}\nroom = []\n[web]\ntls-cert = \"x\"", "web.password-file = \"nix\"", "uploads = 99999999999999999999", "uploads = \"3\"", "uploads = 0",
		"[web]\npassword_file = \"x\"", "\"größe\" = 1", "größe = 1", "x = \"\xff\"", "timezone = \"Asia/Peking\"", "timezone = \"\"", "limit-rate = \"fast\"", "min-free = \"1k\"\nstop-free = \"1M\"",
		"[[hook]]\nrun = \"true\"", "[[hook]]\non = \"part.save\"\nrun = [\"true\"]", "[[hook]]\non = \"part.safe\"\nrun = [\"/nowhere\"]\ntimeout = \"1ms\"",
		room + "[room.web]\nx = 1", "[[notify]]\nurl=\"secret\"\n[[notify]]\non=[\"brodcast\"]", "[[notify]]\nurl = \"ntfy://h/x\"\nurl-file = \"telegram\"",
		room + "window = \"18:00\"", room + "window = \"25:00-26:00\"", room + "window = \"00:00-24:00\"", room + "title = \"{titel}\"", room + "name = \"{room}/x\"", room + "name = \"a/b\"", room + "name = \".\"", room + "name = \"..\"",
		room + "skip-titles = [\"a\", \" \"]", room + "priority = 5000", room + "container = \"avi\"", room + room, room + "name = \"x\"\n[[room]]\nurl = \"http://h/2\"\nname = \"X\"",
		"[[room]]\nname = \"x\"", "[[room]]\nurl = \"mailto:x\"", "# 说明\n名 = 1", "data = \"\"", "[target.b]\nto = \"bilibili:?cookies=x\"\n" + room + "segment = \"11h\"",
		"[target.b]\nto = \"bilibili:?cookies=x\"\n" + room + "max-size = \"30GiB\"", "[target.b]\nto = \"bilibili:?cookies=x\"\n[defaults]\nmax-size = \"30GiB\"\n" + room,
		"listen = \"127.0.0.1:1\nlog", "notify = [{url = \"ntfy://h/x\", to = 1}]",
	} {
		_, err := Load(write(t, text), fakes)
		errs, ok := err.(Errors)
		if !ok {
			t.Errorf("%q gives %v", text, err)
			continue
		}
		b.WriteString("--- " + strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\n", "\n    ") + "\n")
		for _, e := range errs {
			if (e.Line < 1 || e.Column < 1) && !strings.Contains(text, "{}") {
				t.Errorf("%q: no place: %v", text, e)
			}
			e.Text = strings.ReplaceAll(e.Text, filepath.Dir(e.File)+"/", "")
			e.File = "f"
			b.WriteString(e.Error() + "\n")
		}
	}
	for l := range strings.Lines(b.String()) {
		if strings.HasPrefix(l, "f:") && strings.Contains(l, "pass") && !strings.Contains(l, "password") {
			t.Errorf("an error shows a password: %s", l)
		}
	}
	golden(t, "errors.txt", b.String())
}

// fakes stand for what cmd asks of the sites and the targets.
var fakes = Checks{
	Destination: func(spec, base string) (string, bool, error) {
		if strings.HasPrefix(spec, "sftp:") {
			return "", false, errors.New("sftp: is not there in this version; there are file:, s3: and bilibili:")
		}
		id, opt, _ := strings.Cut(spec, "?")
		return filepath.Join(base, id), opt != "required=false", nil
	},
	Room: func(url string) (string, string, error) {
		if !strings.HasPrefix(url, "http") {
			return "", "", errors.New("it is no address of a room; right would be http://host/live.flv")
		}
		return "direct:" + url, filepath.Base(url), nil
	},
}

var update = flag.Bool("update", false, "renew the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func TestDiffNamesWhatChangedAndNothingElse(t *testing.T) {
	load := func(text string) Config {
		t.Helper()
		c, err := Parse([]byte(text), "/etc/liverec.toml", fakes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const base = "limit-rate = \"20M\"\n[target.a]\nto = \"/a\"\n[target.b]\nto = \"/b\"\n[defaults]\nto = [\"a\"]\n" +
		"[[room]]\nurl = \"http://h/1\"\n[[room]]\nurl = \"http://h/2\"\nto = [\"b\"]\n"
	edit := func(from, to string) string { return strings.Replace(base, from, to, 1) }
	for _, c := range []struct{ name, text, want string }{
		{"nothing", base, ""},
		{"a comment and the order", "# x\n" + edit("[[room]]\nurl = \"http://h/1\"\n", "") + "[[room]]\nurl = \"http://h/1\"\n", ""},
		{"a default written out", edit("http://h/1\"\n", "http://h/1\"\nsegment = \"15m\"\n"), ""},
		{"one room", edit("http://h/1\"\n", "http://h/1\"\nsegment = \"20m\"\nname = \"x\"\n"), "http://h/1[name segment]"},
		{"the defaults reach the room that says nothing else", edit("to = [\"a\"]", "to = [\"b\"]"), "http://h/1[to]"},
		{"a target moves", edit("to = \"/b\"", "to = \"/c\""), "target b; http://h/2[to]"},
		{"a room more and a room less", edit("http://h/1", "http://h/3"), "+http://h/3; -http://h/1"},
		{"the rate", edit("20M", "30M"), "global limit-rate"},
		{"another page", "listen = \"127.0.0.1:1\"\n" + base, "global listen; restart listen"},
		{"a target more", base + "[target.c]\nto = \"/c\"\n", "+target c"},
	} {
		got := Diff(load(base), load(c.text))
		var out []string
		for _, x := range got.Global {
			out = append(out, "global "+x)
		}
		for _, x := range got.Restart() {
			out = append(out, "restart "+x)
		}
		for _, x := range got.TargetsAdded {
			out = append(out, "+target "+x)
		}
		for _, x := range got.TargetsChanged {
			out = append(out, "target "+x)
		}
		for _, x := range got.RoomsAdded {
			out = append(out, "+"+x.URL)
		}
		for _, x := range got.RoomsChanged {
			out = append(out, fmt.Sprint(x.New.URL, x.Keys))
		}
		for _, x := range got.RoomsRemoved {
			out = append(out, "-"+x.URL)
		}
		if s := strings.Join(out, "; "); s != c.want || got.IsZero() != (c.want == "") {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
	}
}

// Every field of a room is looked at by Diff, also the one that is added next.
func TestDiffKnowsEveryFieldOfARoom(t *testing.T) {
	typ := reflect.TypeFor[Room]()
	if n, keys := typ.NumField()-1, len(Differ(Room{}, full(t), nil)); n != keys {
		t.Errorf("a room has %d settings, Differ sees %d", n, keys)
	}
}

func full(t *testing.T) Room {
	t.Helper()
	w, err := ParseWindow("1:00-2:00")
	if err != nil {
		t.Fatal(err)
	}
	n, err := naming.Parse("{title}")
	if err != nil {
		t.Fatal(err)
	}
	return Room{URL: "x", Name: "x", To: []string{"x"}, Segment: 1, MaxSize: 1, Quality: "x", Container: "x", Ads: "x", Grace: 1, Title: n, Folder: n, BilibiliCodec: "x",
		BilibiliAllowHosts: "x", BilibiliBanHosts: "x", BilibiliOriginal: true, Window: w, SkipTitles: []string{"x"}, Priority: 1, Paused: true}
}

func TestSettingsOfThePage(t *testing.T) {
	c, err := Parse([]byte("[target.a]\nto = \"/a\"\n[defaults]\nsegment = \"5m\"\n"), "/etc/liverec.toml", fakes)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Room(Settings{URL: "http://h/1", Quality: "720"}, fakes)
	if err != nil || r.Segment != 5*time.Minute || r.Quality != "720" || r.Key() != "direct:http://h/1" {
		t.Errorf("the room is %+v, %v", r, err)
	}
	for _, s := range []Settings{{}, {URL: "x"}, {URL: "http://h/1", To: []string{"b"}}, {URL: "http://h/1", Window: "x"}, {URL: "http://h/1", Name: "a/b"}, {URL: "http://h/1", Name: ".."}} {
		_, err := c.Room(s, fakes)
		if e, ok := err.(*Error); !ok || e.Key == "" || strings.Contains(e.Error(), "room.") || e.Line != 0 {
			t.Errorf("%+v gives %v", s, err)
		}
	}
}

func TestSkipTitles(t *testing.T) {
	r := Room{SkipTitles: []string{"Rerun", "重播"}}
	for title, want := range map[string]bool{"RERUN of yesterday": true, "【重播】x": true, "fresh": false} {
		if _, yes := r.Skips(title); yes != want {
			t.Errorf("%q: %v", title, yes)
		}
	}
}

func TestWindow(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		m, err := time.ParseInLocation("2006-01-02 15:04", s, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		window, at string
		open       bool
	}{
		{"18:00-02:00", "2026-01-01 17:59", false}, {"18:00-02:00", "2026-01-01 18:00", true}, {"18:00-02:00", "2026-01-02 01:59", true}, {"18:00-02:00", "2026-01-02 02:00", false},
		{"8:00-10:00 20:00-24:00", "2026-01-02 23:59", true}, {"8:00-10:00 20:00-24:00", "2026-01-02 00:00", false}, {"8:00-10:00, 20:00-24:00", "2026-01-02 09:00", true},
	} {
		w, err := ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		if w.Open(at(c.at)) != c.open {
			t.Errorf("%s at %s: %v", c.window, c.at, !c.open)
		}
	}
	if w := (Window{}); !w.Open(at("2026-01-01 00:00")) || !w.Next(at("2026-01-01 00:00")).IsZero() {
		t.Error("the zero window is not always open")
	}
	// Over both changes of the clock: nothing changes between a moment and the Next one.
	for _, text := range []string{"18:00-02:00", "02:30-02:45", "01:00-03:00", "00:00-12:00 13:00-13:01"} {
		w, err := ParseWindow(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, day := range []string{"2026-03-28 12:07", "2026-10-24 12:07"} {
			for now, end := at(day), at(day).Add(48*time.Hour); now.Before(end); {
				next := w.Next(now)
				if !next.After(now) || next.Sub(now) > time.Hour {
					t.Fatalf("%s: after %v comes %v", text, now, next)
				}
				for m := now; m.Before(next); m = m.Add(time.Minute) {
					if w.Open(m) != w.Open(now) {
						t.Fatalf("%s: it changes at %v, between %v and %v", text, m, now, next)
					}
				}
				now = next
			}
		}
	}
}

func TestSecretsStayWithTheirOwner(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pw")
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string // of the error
	}{{"a secret\nmore\n", 0o600, ""}, {"a secret", 0o640, ""}, {"a secret", 0o644, "chmod 600"}, {"\n", 0o600, "is empty"}} {
		if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		s, err := Secret(file)
		if c.want == "" && (err != nil || s.Reveal() != "a secret") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "a secret")) {
			t.Errorf("%q with %o: %q, %v", c.text, c.mode, s.Reveal(), err)
		}
	}
	c, err := Load(write(t, example), Checks{})
	if err != nil {
		t.Fatal(err)
	}
	if s := fmt.Sprintf("%v %+v %#v", c, c, c); strings.Contains(s, "correct horse") || strings.Contains(s, "123:abc") {
		t.Error("a printed config shows a secret")
	}
}

// house is a file with n rooms.
func house(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "[[room]]\nurl = \"https://live.example.com/%d\"\nname = \"room %d\"\nwindow = \"18:00-02:00\"\npriority = %d\n", i, i, i%10)
	}
	return b.Bytes()
}

func TestTenThousandRooms(t *testing.T) {
	c, err := Parse(house(10_000), "/etc/liverec.toml", fakes)
	if err != nil || len(c.Rooms) != 10_000 {
		t.Fatalf("%d rooms, %v", len(c.Rooms), err)
	}
	if d := Diff(c, c); !d.IsZero() {
		t.Errorf("a config differs from itself: %+v", d)
	}
}

// Ten times the rooms are to cost ten times as much, not a hundred times.
func BenchmarkRooms(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		text := house(n)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, err := Parse(text, "/etc/liverec.toml", fakes)
				if err != nil {
					b.Fatal(err)
				}
				if d := Diff(c, c); !d.IsZero() {
					b.Fatalf("a config differs from itself: %+v", d)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("target = {a = {to = \"x\", required = false}}\nroom = [{url = \"http://x\"}, {}]"))
	f.Add([]byte("[[room]]\nurl = \"http://h/x\"\n[room.web]\nx.y = 1\n\"\" = 2"))
	f.Add([]byte("[room]\n[[notify]]\n'''"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, "/nowhere/liverec.toml", fakes)
		if err == nil {
			if d := Diff(c, c); !d.IsZero() {
				t.Errorf("it differs from itself: %+v", d)
			}
			return
		}
		errs, ok := err.(Errors)
		if !ok {
			t.Fatalf("%T: %v", err, err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, e := range errs {
			if e.Line < 0 || e.Line > lines || e.Text == "" || strings.ContainsAny(e.Error(), "\n\r\x1b") {
				t.Errorf("a bad error: %q, line %d of %d", e, e.Line, lines)
			}
		}
	})
}
