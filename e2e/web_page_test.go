package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// tab is one tab of a browser that was never here before.
type tab struct {
	*testing.T
	ctx context.Context
}

func (b *browser) tab(t *testing.T) tab {
	t.Helper()
	if b.ctx == nil {
		t.Skip("chromium is not installed; `make setup` gets it")
	}
	ctx, closed := chromedp.NewContext(b.ctx)
	t.Cleanup(closed)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("Chromium: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(cancel)
	return tab{t, ctx}
}

func (b tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.Fatalf("Chromium: %v", err)
	}
}

// look evaluates an expression.
func look[T any](b tab, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatalf("Chromium: %s: %v", expression, err)
	}
	return v
}

// until waits for an expression to become true, on whatever page there is by then.
func (b tab) until(what, expression string) {
	b.Helper()
	rig.Until(b.T, 45*time.Second, what, func() bool {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		return err == nil && ok
	})
}

// where is the element that has the focus, as a person would call it.
const where = `(() => { const e = document.activeElement; return e === document.body ? '' : (e.getAttribute('aria-label') || e.innerText || e.name || e.id || e.tagName).trim(); })()`

// signIn goes to the overview, through the page that asks for the password if this browser was not asked before.
func (b tab) signIn(base string) {
	b.Helper()
	b.do(chromedp.Navigate(base + "/"))
	b.until("a page", `document.querySelector('#password, #truth')`)
	if look[bool](b, `!!document.querySelector('#password')`) {
		b.until("the focus is on the password", `document.activeElement.id === 'password'`)
		b.do(chromedp.KeyEvent(doorPassword), chromedp.KeyEvent(kb.Enter))
	}
	b.until("the overview behind the password", `location.pathname === '/' && document.querySelector('#truth')`)
}

// The pages as a person uses them: the running program, a real browser, rooms that are live.
func TestWebPages(t *testing.T) { // alone: a browser, a fuzzer and dozens of rooms leave the others no time
	var rooms strings.Builder
	for _, c := range []string{"flv", "mp4"} {
		_, url := live(t, liveroom.Config{})
		fmt.Fprintf(&rooms, "[[room]]\nurl = %q\nname = %q\ncontainer = %q\nsegment = \"5m\"\n", url, c, c)
	}
	_, dark := serve(t, liveroom.Config{})
	for i := range 62 { // the list of those that are not live has a second page
		fmt.Fprintf(&rooms, "[[room]]\nurl = \"%s?%d\"\nname = \"dark %d <b>\"\n", dark, i, i)
	}
	d := openDoors(t, rooms.String())
	b := openBrowser(t)

	t.Run("previews play", func(t *testing.T) {
		b := b.tab(t)
		b.signIn(d.base)
		for _, room := range []string{"flv", "mp4"} {
			b.do(chromedp.Navigate(d.base + "/room?name=" + room))
			b.until("a part is open", `document.querySelector('.stage .play') || (location.reload(), false)`)
			b.do(chromedp.Click(".stage .play"))
			b.until("the preview of "+room+" begins", `document.querySelector('video')?.currentTime > 0`)
			from := look[float64](b, `document.querySelector('video').currentTime`)
			b.until("the preview of "+room+" goes on", fmt.Sprintf(`document.querySelector('video').currentTime > %f + 2 && document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames > 40`, from))
			if w := look[int](b, `document.querySelector('video').videoWidth`); w != 640 {
				t.Errorf("the preview of %s is %d pixels wide", room, w)
			}
		}
		// On the overview it plays in a dialog, which Escape closes.
		b.do(chromedp.Navigate(d.base + "/"))
		b.until("a live room", `document.querySelector('[data-peek=flv]')`)
		b.do(chromedp.Click("[data-peek=flv]"))
		b.until("the preview in the dialog", `document.querySelector('dialog[open] video')?.currentTime > 0.5`)
		b.do(chromedp.KeyEvent(kb.Escape))
		b.until("the dialog is closed and the video gone", `!document.querySelector('dialog[open]') && !document.querySelector('video')`)
	})

	t.Run("numbers move by themselves and plots are drawn", func(t *testing.T) {
		b := b.tab(t)
		b.signIn(d.base)
		b.until("the plots", `document.querySelectorAll('.plot canvas').length === 2`)
		size := `[...document.querySelectorAll('.card .figures')].map((e) => e.textContent).join()`
		was := look[string](b, size)
		b.until("the open part grows", size+" !== "+fmt.Sprintf("%q", was))
		if n := look[int](b, `performance.getEntriesByType('navigation').length`); n != 1 {
			t.Errorf("the page was loaded %d times", n)
		}
		if outside := look[[]string](b, `performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith(location.origin + '/'))`); len(outside) > 0 {
			t.Errorf("the page asked other hosts: %q", outside)
		}
		if n := look[int](b, `document.querySelectorAll('main b').length`); n != 0 {
			t.Errorf("a name became %d elements", n)
		}
		paint := look[float64](b, `performance.getEntriesByName('first-contentful-paint')[0].startTime`)
		t.Logf("first paint after %.0f ms, with whatever else this machine does", paint)
	})

	t.Run("keyboard", func(t *testing.T) {
		b := b.tab(t)
		b.signIn(d.base)
		b.do(chromedp.KeyEvent(kb.Tab))
		if at := look[string](b, where); at != "Skip to the content" {
			t.Fatalf("the first step is %q", at)
		}
		if y := look[float64](b, `document.activeElement.getBoundingClientRect().top`); y < 0 {
			t.Errorf("the link past the menu is not seen: %f", y)
		}
		b.do(chromedp.KeyEvent(kb.Enter))
		b.until("the content has the focus", `document.activeElement.id === 'main'`)
		// Through the whole page and out again: no trap, and the place is always seen.
		var way []string
		for range 150 {
			b.do(chromedp.KeyEvent(kb.Tab))
			at := look[string](b, where)
			if at == "" || at == "Skip to the content" {
				break
			}
			way = append(way, at)
			if seen := look[bool](b, `document.activeElement.matches(':focus-visible') && getComputedStyle(document.activeElement).outlineStyle !== 'none'`); !seen {
				t.Errorf("the focus on %q is not seen", at)
			}
		}
		if len(way) < 60 || len(way) == 150 {
			t.Fatalf("%d steps: %q", len(way), way)
		}
		for _, want := range []string{"Find a room", "Preview of mp4", "Next", "6 h"} {
			if !slices.Contains(way, want) {
				t.Errorf("the keyboard does not come to %q: %q", want, way)
			}
		}
		// A command, and a question that is answered with no.
		b.do(chromedp.Navigate(d.base + "/room?name=flv"))
		b.until("the commands", `document.querySelector('[value=split]')`)
		look[bool](b, `(document.querySelector('[value=split]').focus(), true)`)
		b.do(chromedp.KeyEvent(kb.Enter))
		b.until("the answer", `document.querySelector('#said').innerText.includes('A new part of')`)
		look[bool](b, `([...document.querySelectorAll('.verbs a')].find((a) => a.innerText === 'Stop').focus(), true)`)
		b.do(chromedp.KeyEvent(kb.Enter))
		b.until("the question", `document.querySelector('dialog[open] #question')`)
		b.do(chromedp.KeyEvent(kb.Escape))
		b.until("the page without a question", `!document.querySelector('dialog[open]') && location.pathname === '/room'`)
	})

	t.Run("three widths, two languages", func(t *testing.T) {
		b := b.tab(t)
		b.signIn(d.base)
		for _, language := range []string{"zh", "en"} {
			b.do(chromedp.Navigate(d.base+"/"), chromedp.Click("[name=lang][value="+language+"]"))
			b.until("the language", fmt.Sprintf(`document.documentElement.lang.startsWith(%q)`, language))
			for _, path := range []string{"/", "/room?name=mp4", "/history", "/add", "/access"} {
				b.do(chromedp.Navigate(d.base + path))
				for _, width := range []int64{360, 768, 1440} {
					b.do(chromedp.EmulateViewport(width, 800))
					if over := look[int](b, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
						t.Errorf("%s in %s is %d pixels wider than %d", path, language, over, width)
					}
				}
			}
		}
		b.do(chromedp.Navigate(d.base+"/"), chromedp.Click("[name=theme]"))
		b.until("dark colours", `document.documentElement.dataset.theme === 'dark' && getComputedStyle(document.body).backgroundColor === 'rgb(18, 20, 21)'`)
	})

	t.Run("without scripts", func(t *testing.T) {
		b := b.tab(t)
		b.signIn(d.base)
		if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
			t.Fatal(err)
		}
		b.do(chromedp.Navigate(d.base + "/room?name=mp4"))
		if n := look[int](b, `document.querySelectorAll('canvas').length`); n != 0 {
			t.Fatal("there are scripts")
		}
		b.do(chromedp.Click("[value=pause]"))
		b.until("the answer on a page of its own", `location.search.includes('said=pause') && document.querySelector('#said').innerText.includes('is being paused')`)
		rig.Until(t, 30*time.Second, "the room is paused", func() bool {
			b.do(chromedp.Navigate(d.base + "/room?name=mp4"))
			return look[bool](b, `!!document.querySelector('[value=continue]')`)
		})
		b.do(chromedp.Click("[value=continue]"))
		b.until("it goes on", `location.search.includes('said=continue')`)
		b.do(chromedp.Navigate(d.base+"/"), chromedp.Click("[rel=next]"))
		b.until("the next page of the list", `location.search.includes('rest=2') && document.querySelector('.rows li')`)
		b.do(chromedp.Navigate(d.base+"/add"), chromedp.SendKeys("#f-url", "nonsense"), chromedp.Click(".submit button"))
		b.until("what is wrong, at its field", `document.querySelector('#f-url[aria-invalid=true]') && document.querySelector('#e-url').innerText`)
	})
}
