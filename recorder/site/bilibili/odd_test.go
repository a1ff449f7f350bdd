package bilibili_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/liverec/liverec/pkg/bilibili/bilitest"
	"github.com/liverec/liverec/pkg/liveroom"
	"github.com/liverec/liverec/recorder/site/bilibili"
)

// page is a log that may be written to by several goroutines.
type page struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// What is odd in the FLV of a room stands in its log.
func TestOdditiesAreTold(t *testing.T) {
	r, _ := room(t, bilitest.LiveRoom{}, liveroom.Config{Speed: 20, Fault: func(int) liveroom.Fault {
		return liveroom.Fault{Events: []liveroom.Event{{Tags: 20, Junk: []byte("<html>502 Bad Gateway</html>")}}}
	}})
	var log page
	res, err := site(t).Resolver(bilibili.Config{URL: address(r), Log: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	pull(t, resolve(t, res).Source, 60)
	if s := log.String(); !strings.Contains(s, `"what":"junk between tags"`) || !strings.Contains(s, "stream is odd") {
		t.Error(s)
	}
}
