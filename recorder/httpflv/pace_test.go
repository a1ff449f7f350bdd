package httpflv

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder/pace"
)

// A host that sends a stream slower than it plays is left after some 20 s, and the error says so; one that keeps up is
// stayed with.
func TestSlowHost(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration // a frame of 100 ms
		left  bool
	}{{"as fast as it plays", 100 * time.Millisecond, false}, {"0.8 of it", 125 * time.Millisecond, true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dial := func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					go func() {
						defer theirs.Close()
						if _, err := http.ReadRequest(bufio.NewReader(theirs)); err != nil {
							return
						}
						io.WriteString(theirs, "HTTP/1.1 200 OK\r\n\r\n")
						b := flv.AppendFileHeader(nil, true, false)
						for i := range 400 {
							b = flv.AppendTag(b, flv.TagAudio, uint32(i*100), []byte{0xaf, 1, byte(i), 2, 3})
							if _, err := theirs.Write(b); err != nil {
								return
							}
							b = b[:0]
							time.Sleep(c.every)
						}
					}()
					return ours, nil
				}
				steps := &pace.Steps{}
				steps.Opened(1, nil, 2)
				blamed := ""
				s, err := Open(t.Context(), Config{URL: "http://media.example/a", Dial: dial, Watch: &pace.Watch{Steps: steps, Slow: func(host string) { blamed = host }}})
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				_, _, err = run(t, s)
				_, gave := errors.AsType[*pace.GiveUp](err)
				if gave != c.left || gave && (blamed != "media.example" || !strings.Contains(err.Error(), "0.80 of real time, another host")) {
					t.Errorf("%v, blamed %q", err, blamed)
				}
				time.Sleep(time.Second) // the server finds out
				if d := time.Since(begin) - time.Second; gave && (d < 19*time.Second || d > 30*time.Second) {
					t.Errorf("after %v", d)
				}
			})
		})
	}
}

// The one request asks for the whole stream as it is, and only 200 is an answer to that (T2, T11).
func TestRequest(t *testing.T) {
	seen := make(chan *http.Request, 1)
	code := http.StatusOK
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.WriteHeader(code)
		w.Write(stream())
	})
	s, err := Open(t.Context(), Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if r := <-seen; r.Method != http.MethodGet || r.Header.Get("Range") != "" || r.Header.Get("Accept-Encoding") != "identity" {
		t.Errorf("%s %v", r.Method, r.Header)
	}
	for _, code = range []int{http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable, http.StatusForbidden, http.StatusNotFound} {
		_, err := Open(t.Context(), Config{URL: url})
		if e, ok := errors.AsType[*StatusError](err); !ok || e.Code != code {
			t.Errorf("%d: %v", code, err)
		}
		<-seen
	}
}
