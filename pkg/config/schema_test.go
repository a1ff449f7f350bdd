package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// valid is what of JSON Schema our schema uses.
func valid(root, s map[string]any, v any, at string) error {
	if ref, ok := s["$ref"].(string); ok {
		def := root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")]
		return valid(root, def.(map[string]any), v, at)
	}
	for k := range s {
		if !slices.Contains([]string{"$schema", "$defs", "title", "description", "default", "examples", "type", "enum", "pattern", "minLength", "minimum",
			"maximum", "items", "minItems", "properties", "additionalProperties", "required"}, k) {
			return fmt.Errorf("%s: the validator of this test does not know %s", at, k)
		}
	}
	typ := func() string {
		switch v.(type) {
		case string:
			return "string"
		case int64:
			return "integer"
		case bool:
			return "boolean"
		case []any:
			return "array"
		case map[string]any:
			return "object"
		}
		return fmt.Sprintf("%T", v)
	}()
	if want, ok := s["type"].(string); ok && want != typ {
		return fmt.Errorf("%s: %s, want %s", at, typ, want)
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Errorf("%s: not in %v", at, enum)
	}
	switch v := v.(type) {
	case string:
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%s: %q does not match %s", at, v, p)
		}
		if n, ok := s["minLength"].(float64); ok && utf8.RuneCountInString(v) < int(n) {
			return fmt.Errorf("%s: too short", at)
		}
	case int64:
		if n, ok := s["minimum"].(float64); ok && float64(v) < n {
			return fmt.Errorf("%s: too small", at)
		}
		if n, ok := s["maximum"].(float64); ok && float64(v) > n {
			return fmt.Errorf("%s: too large", at)
		}
	case []any:
		if n, ok := s["minItems"].(float64); ok && len(v) < int(n) {
			return fmt.Errorf("%s: too few", at)
		}
		for i, x := range v {
			if items, ok := s["items"].(map[string]any); ok {
				if err := valid(root, items, x, fmt.Sprintf("%s[%d]", at, i)); err != nil {
					return err
				}
			}
		}
	case map[string]any:
		props, _ := s["properties"].(map[string]any)
		for k, x := range v {
			p, _ := props[k].(map[string]any)
			switch more := s["additionalProperties"]; {
			case p != nil:
				if err := valid(root, p, x, at+"."+k); err != nil {
					return err
				}
			case more == false:
				return fmt.Errorf("%s: %s is not allowed", at, k)
			default:
				if m, ok := more.(map[string]any); ok {
					if err := valid(root, m, x, at+"."+k); err != nil {
						return err
					}
				}
			}
		}
		for _, k := range asSlice(s["required"]) {
			if _, ok := v[k.(string)]; !ok {
				return fmt.Errorf("%s: %s is missing", at, k)
			}
		}
	}
	return nil
}

func asSlice(v any) []any { s, _ := v.([]any); return s }

func schemaOf(t *testing.T) func(text string) error {
	t.Helper()
	data, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	return func(text string) error {
		var doc map[string]any
		if err := toml.Unmarshal([]byte(text), &doc); err != nil {
			return err
		}
		return valid(root, root, doc, "")
	}
}

// What an editor says by the schema is what the program says.
func TestTheSchemaAgreesWithLoad(t *testing.T) {
	schema := schemaOf(t)
	const room = "[[room]]\nurl = \"http://h/live.flv\"\n"
	good := []string{example, "", room, room + "name = \"a b\"", room + "segment = \"90s\"", room + "segment = \"1h30m\"", room + "max-size = \"500MB\"",
		room + "quality = \"720\"", room + "container = \"mp4\"", room + "ads = \"keep\"", room + "grace = \"0\"", room + "window = \"08:00-10:00 20:00-24:00\"",
		room + "window = \"23:00-1:00, 4:30-5:00\"", room + "priority = -5", room + "paused = true", room + "skip-titles = []", room + "folder = \"{room}/{date}\"",
		"[defaults]\nname = \"{room}/{title}\"\nbilibili-codec = \"hevc\"", "target.a.to = \"/srv/a\"\ntarget.b = {to = \"/srv/b\"}\n[defaults]\nto = [\"b\"]",
		"keep = \"24h\"\nmin-free = \"2GiB\"\nstop-free = \"0\"\nuploads = 64\nlog-level = \"warn\"", "web = {}", "room = []",
		"[[notify]]\nurl = \"ntfy://ntfy.sh/x\"\non = [\"trouble\"]", "[[hook]]\non = \"trouble\"\nrun = [\"/bin/true\", \"x\"]\ntimeout = \"5s\""}
	for _, text := range good {
		if _, err := Load(write(t, text), Checks{}); err != nil {
			t.Errorf("the loader refuses %q: %v", text, err)
		}
		if err := schema(text); err != nil {
			t.Errorf("the schema refuses %q: %v", text, err)
		}
	}
	bad := []string{"listen = 8420", "listen = \"127.0.0.1\"", "once = true", "uploads = 0", "uploads = 65", "uploads = \"3\"", "log-level = \"loud\"", "keep = \"a day\"",
		"keep = 5", "min-free = \"lots\"", "rooms = 1", "[web]\npassword = \"x\"", "[target.a]\nurl = \"x\"", "[target.a]", "[target.a]\nto = \"\"", "[[room]]\nname = \"x\"",
		room + "segment = 15", room + "segment = \"fifteen\"", room + "window = \"evening\"", room + "container = \"avi\"", room + "ads = \"all\"", room + "to = []",
		room + "to = \"archive\"", room + "priority = 1001", room + "priority = \"high\"", room + "once = true", room + "keep = \"1h\"", room + "bilibili-original = \"yes\"",
		"[defaults]\nurl = \"http://h/x\"", "[[notify]]\nurl = \"ntfy://h/x\"\non = [\"everything\"]", "[[hook]]\non = \"part\"\nrun = [\"/bin/true\"]", "[[hook]]\nrun = [\"/bin/true\"]",
		"[[hook]]\non = \"trouble\"\nrun = []"}
	for _, text := range bad {
		if _, err := Load(write(t, text), Checks{}); err == nil {
			t.Errorf("the loader takes %q", text)
		}
		if err := schema(text); err == nil {
			t.Errorf("the schema takes %q", text)
		}
	}
}

// Every key has a place in the documentation, and the example there is sound.
func TestTheDocumentationKnowsEveryKey(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tab := range tables() {
		for _, k := range tab.keys {
			if !strings.Contains(string(doc), "`"+k+"`") && !strings.Contains(string(doc), k+".NAME") {
				t.Errorf("docs/config.md says nothing of %s %s", k, tab.name)
			}
		}
	}
	schema := schemaOf(t)
	for name, least := range map[string]int{"config.md": 2, "notifications.md": 1, "hooks.md": 1} {
		doc, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
		if len(blocks) < least {
			t.Fatalf("docs/%s has %d examples", name, len(blocks))
		}
		for _, b := range blocks {
			text := strings.NewReplacer("/run/secrets/liverec", "password", "/usr/local/bin/after-part", "/bin/true", "/run/secrets/telegram", "telegram").Replace(b[1])
			if _, err := Load(write(t, text), Checks{}); err != nil {
				t.Errorf("docs/%s: an example is refused: %v\n%s", name, err, text)
			}
			if err := schema(text); err != nil {
				t.Errorf("docs/%s: the schema refuses an example: %v", name, err)
			}
		}
	}
}
