package qr_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/liverec/liverec/pkg/bilibili/qr"
)

const address = "https://passport.bilibili.com/x/passport-tv-login/h5/qrcode/auth?auth_code=0123456789abcdef0123456789abcdef"

func encode(t *testing.T, text string) *qr.Code {
	t.Helper()
	c, err := qr.Encode(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The capacities of the standard (table 7, byte mode), from both sides.
func TestVersions(t *testing.T) {
	low := []int{17, 32, 53, 78, 106, 134, 154, 192, 230, 271}
	medium := []int{14, 26, 42, 62, 84, 106, 122, 152, 180, 213}
	for i := range low {
		v := i + 1
		for _, c := range []struct {
			n       int
			version int
			medium  bool
		}{{low[i], v, false}, {low[i] + 1, v + 1, false}, {medium[i], v, true}, {medium[i] + 1, v, false}} {
			if i > 0 && c.n <= low[i-1] {
				continue // fits into a smaller one
			}
			code, err := qr.Encode(strings.Repeat("x", c.n))
			if c.version > 10 {
				if err == nil {
					t.Errorf("%d bytes fit", c.n)
				}
				continue
			}
			if err != nil || code.Version != c.version || code.Size != 17+4*code.Version || c.version == v && code.Medium != c.medium {
				t.Errorf("%d bytes: %+v, %v, want version %d", c.n, code.Version, err, c.version)
			}
		}
	}
}

// Another way through the standard: read the code back, checking every check word.
func TestReadBack(t *testing.T) {
	for n := range 272 {
		text := strings.Repeat("liverec 直播 ", 30)[:n]
		c := encode(t, text)
		if got, err := readBack(c); err != nil || got != text {
			t.Fatalf("%d bytes, version %d: %q, %v", n, c.Version, got, err)
		}
	}
}

// The second opinion of a reader that others wrote.
func TestZbarReadsIt(t *testing.T) {
	zbar, err := exec.LookPath("zbarimg")
	if err != nil {
		t.Skip("zbarimg (Debian package zbar-tools) is not installed")
	}
	for _, text := range []string{address, "x", strings.Repeat("ab/", 90), strings.Repeat("7", 150), "https://b23.tv/abc1234"} {
		c := encode(t, text)
		path := filepath.Join(t.TempDir(), "code.png")
		var b bytes.Buffer
		if err := png.Encode(&b, picture(c)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), zbar, "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", path).Output()
		if err != nil || strings.TrimSpace(string(out)) != text {
			t.Errorf("version %d: zbar reads %q, %v, want %q", c.Version, out, err, text)
		}
	}
}

// picture draws what Lines draws, so that the drawing is tested too.
func picture(c *qr.Code) image.Image {
	const scale = 6
	lines := c.Lines(false)
	img := image.NewGray(image.Rect(0, 0, scale*utf8.RuneCountInString(lines[0]), scale*2*len(lines)))
	for l, line := range lines {
		for x, r := range []rune(line) {
			for half, light := range []bool{r == '█' || r == '▀', r == '█' || r == '▄'} {
				for i := range scale * scale {
					if light {
						img.SetGray(scale*x+i%scale, scale*(2*l+half)+i/scale, color.Gray{255})
					}
				}
			}
		}
	}
	return img
}

func TestLines(t *testing.T) {
	c := encode(t, address)
	if c.Version != 6 {
		t.Errorf("the login address needs version %d", c.Version)
	}
	plain, colored := c.Lines(false), c.Lines(true)
	if len(plain) > 23 || len(plain) != len(colored) {
		t.Errorf("%d and %d lines do not fit into a terminal of 24", len(plain), len(colored))
	}
	for i, l := range plain {
		if n := utf8.RuneCountInString(l); n != c.Size+4 {
			t.Errorf("line %d has %d columns", i, n)
		}
		inverse := strings.Map(func(r rune) rune {
			return map[rune]rune{'█': ' ', '▀': '▄', '▄': '▀', ' ': '█'}[r]
		}, l)
		want := "\x1b[38;5;16;48;5;231m" + inverse + "\x1b[0m"
		if i < len(plain)-1 && colored[i] != want {
			t.Errorf("line %d: %q, want %q", i, colored[i], want)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add(address)
	f.Add("")
	f.Add("\xff\x00")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := qr.Encode(text)
		if err != nil {
			if len(text) <= 271 {
				t.Errorf("%d bytes: %v", len(text), err)
			}
			return
		}
		if got, err := readBack(c); err != nil || got != text {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
	})
}
