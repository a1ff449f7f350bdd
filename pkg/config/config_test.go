package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	for name, data := range map[string]string{"password": "correct horse\n", "liverec.toml": text} {
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
