package bilibili

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/bilibili"
)

const (
	probeTime = 5 * time.Second // for one line
	probeAll  = 8 * time.Second // for list and lines together
	probeFor  = time.Hour       // how long a choice is believed
	probeMost = 4 << 20         // bytes; older servers named sizes that cost more than they told
)

// lines is the choice of an upload line. The zero value has chosen nothing.
type lines struct {
	query url.Values // of the chosen line, nil: the server chooses
	until time.Time
}

type probeList struct {
	Lines []struct {
		Query string `json:"query"`
		URL   string `json:"probe_url"`
	} `json:"lines"`
	Probe struct {
		Post float64  `json:"post"`
		Get  *float64 `json:"get"`
	} `json:"probe"`
}

// line is the query of the line that answers first (U 2.2). Lines that are dead, slow or refuse are left out; with none
// left, and when the list cannot be had, the server chooses. It never fails and takes probeAll at the most.
func (t *Target) line(ctx context.Context, client *bilibili.Client) url.Values {
	t.mu.Lock()
	l := t.lines
	t.mu.Unlock()
	if time.Now().Before(l.until) {
		return l.query
	}
	ctx, cancel := context.WithTimeout(ctx, probeAll)
	defer cancel()
	l = lines{until: time.Now().Add(probeFor)}
	var list probeList
	err := client.Do(ctx, bilibili.Call{
		Op: "list the upload lines", URL: "https://member.bilibili.com/preupload", Query: url.Values{"r": {"probe"}}, Shape: bilibili.Upload,
		Timeout: probeTime,
	}, &list)
	if err == nil {
		l.query = fastest(ctx, client.HTTP(), list)
	}
	if l.query == nil {
		l.until = time.Now().Add(probeFor / 6)
	}
	t.mu.Lock()
	t.lines = l
	t.mu.Unlock()
	return l.query
}

// fastest measures all lines at once and waits for the first that succeeds.
func fastest(ctx context.Context, c *http.Client, list probeList) url.Values {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	size := min(max(int(list.Probe.Post*(1<<20)), 1), probeMost)
	won := make(chan url.Values, len(list.Lines)) // 1 per line: nobody blocks who comes late
	var wg sync.WaitGroup
	defer wg.Wait()
	n := 0
	for _, l := range list.Lines {
		q, err := url.ParseQuery(l.Query)
		if err != nil || !strings.HasPrefix(l.URL, "//") || q.Get("upcdn") == "" {
			continue
		}
		n++
		wg.Go(func() {
			if probe(ctx, c, "https:"+l.URL, list.Probe.Get != nil, size) {
				won <- q
			} else {
				won <- nil
			}
		})
	}
	for range n {
		if q := <-won; q != nil {
			cancel() // the others are slower
			return q
		}
	}
	return nil
}

func probe(ctx context.Context, c *http.Client, address string, get bool, size int) bool {
	method, body := http.MethodPost, io.Reader(bytes.NewReader(make([]byte, size)))
	if get {
		method, body = http.MethodGet, nil
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return false
	}
	resp, err := c.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, probeMost))
	return err == nil && resp.StatusCode == http.StatusOK
}

// wanted is the node of the chosen line among those that preupload named, or the one that it wants (U 2.4).
func wanted(endpoint string, all []string, query url.Values) string {
	if name := query.Get("upcdn"); name != "" {
		for _, e := range all {
			if strings.Contains(e, "upcdn"+name+".") {
				return e
			}
		}
	}
	return endpoint
}
