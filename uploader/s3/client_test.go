package s3

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// counted counts the reads of a body, and hides what else it can do.
type counted struct {
	r     io.Reader
	reads int
}

func (c *counted) Read(p []byte) (int, error) {
	c.reads++
	return c.r.Read(p)
}

// A body is taken in pieces of the size of the write buffer.
func TestBodiesInLargePieces(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var got []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var err error
		if got, err = io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	tr := newTransport()
	defer tr.CloseIdleConnections()
	for range 2 {
		body := &counted{r: bytes.NewReader(sent)}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, srv.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = size
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if !bytes.Equal(got, sent) {
			t.Fatal("other bytes arrived than were sent")
		}
		if most := size/(256<<10) + 4; body.reads > most {
			t.Errorf("%d bytes were taken in %d reads, want at most %d", size, body.reads, most)
		}
	}
}
