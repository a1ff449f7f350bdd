package hlspull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/hls"
	"github.com/liverec/liverec/pkg/media/mp4"
	"github.com/liverec/liverec/recorder/hlspull/body"
	"github.com/liverec/liverec/recorder/hlspull/fetch"
	"github.com/liverec/liverec/recorder/hlspull/plan"
)

// tally counts bytes of which the fate is known, until a batch takes them along.
type tally struct {
	mu sync.Mutex
	c  media.Count
}

func (t *tally) header(n int64)  { t.add(media.Count{Received: n, Header: n}) }
func (t *tally) junk(n int64)    { t.add(media.Count{Received: n, Junk: n}) }
func (t *tally) partial(n int64) { t.add(media.Count{Received: n, Partial: n}) }
func (t *tally) tags(n int64)    { t.add(media.Count{Received: n, Tags: n}) }

func (t *tally) add(c media.Count) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.c.Received += c.Received
	t.c.Header += c.Header
	t.c.Tags += c.Tags
	t.c.Junk += c.Junk
	t.c.Partial += c.Partial
}

// take gives out what was counted since the last time.
func (t *tally) take() media.Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.c
	t.c = media.Count{}
	return c
}

// resources are what segments need and share: keys and initialisation sections. They are safe for concurrent use; one
// that is asked for by several is asked once.
type resources struct {
	client *fetch.Client
	count  *tally
	mu     sync.Mutex
	known  map[string]*resource
	order  map[byte][]string // by the first letter of what they are, oldest first
}

type resource struct {
	busy  chan struct{} // not nil: somebody asks; closed when it is known
	value any
	err   error
	at    time.Time
}

const (
	// maxKeys and maxSections are how many are kept.
	maxKeys, maxSections = 64, 16
	// keyLife is how long a key is kept.
	keyLife = time.Hour
	// again is how soon a resource that could not be had is asked for again.
	again = time.Second
)

func newResources(c *fetch.Client, count *tally) *resources {
	return &resources{client: c, count: count, known: map[string]*resource{}, order: map[byte][]string{}}
}

// get gives out what is known, or asks.
func (r *resources) get(ctx context.Context, id string, life time.Duration, ask func() (any, error)) (any, error) {
	for {
		r.mu.Lock()
		x := r.known[id]
		if x == nil {
			most, order := maxSections, r.order[id[0]]
			if id[0] == keyID("")[0] {
				most = maxKeys
			}
			for len(order) >= most {
				delete(r.known, order[0])
				order = order[1:]
			}
			x = &resource{}
			r.known[id] = x
			r.order[id[0]] = append(order, id)
		}
		if x.busy != nil {
			busy := x.busy
			r.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		age := time.Since(x.at)
		if !x.at.IsZero() && (x.err == nil && (life == 0 || age < life) || x.err != nil && age < again) {
			value, err := x.value, x.err
			r.mu.Unlock()
			return value, err
		}
		busy := make(chan struct{})
		x.busy = busy
		r.mu.Unlock()
		value, err := ask()
		r.mu.Lock()
		x.value, x.err, x.at, x.busy = value, err, time.Now(), nil
		r.mu.Unlock()
		close(busy)
		return value, err
	}
}

// forget drops what turned out to be wrong, if it is older than a second.
func (r *resources) forget(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.known[id]
	if x == nil || x.busy != nil || time.Since(x.at) < again {
		return false
	}
	delete(r.known, id)
	r.order[id[0]] = slices.DeleteFunc(r.order[id[0]], func(o string) bool { return o == id })
	return true
}

func keyID(url string) string { return "key " + url }

// secret is what a key is: it stands in the list, or is asked for.
func (r *resources) secret(ctx context.Context, k *hls.Key) ([]byte, error) {
	if inline, is, err := k.Inline(); is {
		if err == nil && len(inline) != 16 {
			err = fmt.Errorf("read the key in the playlist: it has %d bytes instead of 16", len(inline))
		}
		return inline, err
	}
	return r.key(ctx, k.URL)
}

func (r *resources) key(ctx context.Context, url string) ([]byte, error) {
	v, err := r.get(ctx, keyID(url), keyLife, func() (any, error) {
		a, err := r.client.Get(ctx, fetch.Request{URL: url, Max: 1 << 10, Total: listTimeout})
		r.count.header(a.Read)
		if err != nil {
			return nil, fmt.Errorf("get key: %w", err)
		}
		if len(a.Body) != 16 {
			return nil, fmt.Errorf("get key: it has %d bytes instead of 16", len(a.Body))
		}
		return a.Body, nil
	})
	if err != nil {
		return nil, err
	}
	return v.([]byte), nil
}

// section is an initialisation section.
type section struct {
	id  string
	raw []byte
	in  *mp4.Init // nil: it is the beginning of a transport stream
}

func sectionID(m *hls.Map) string {
	return fmt.Sprintf("init %s %d@%d", m.URL, m.Range.Length, m.Range.Offset)
}

// section gets an initialisation section. One that cannot be read is asked for again.
func (r *resources) section(ctx context.Context, m *hls.Map, seg plan.Segment) (*section, error) {
	id := sectionID(m)
	v, err := r.get(ctx, id, 0, func() (any, error) {
		if m.URL == "" {
			return nil, &fetch.PlaceError{What: "an address that is not opened"}
		}
		span := m.Range
		span.Offset = max(span.Offset, 0)
		a, err := r.client.Get(ctx, fetch.Request{URL: m.URL, Range: span, Max: MaxInit, Total: listTimeout})
		r.count.header(a.Read)
		if err != nil {
			return nil, fmt.Errorf("get initialisation section: %w", err)
		}
		raw := a.Body
		k, err := aesKey(m.Keys)
		if err != nil {
			return nil, err
		}
		if k != nil {
			secret, err := r.secret(ctx, k)
			if err != nil {
				return nil, err
			}
			vectors, err := vectorsOf(k, seg)
			if err != nil {
				return nil, err
			}
			if k.IV == "" { // which is against the rules: nothing, or the number of a segment
				vectors = append([][16]byte{{}}, vectors...)
			}
			if raw, _, err = body.Decrypt(raw, secret, vectors...); err != nil {
				return nil, fmt.Errorf("decrypt initialisation section: %w", err)
			}
		}
		s := &section{id: id, raw: raw}
		switch kind, _ := body.Sniff(raw); kind {
		case body.TS:
			return s, nil
		case body.FMP4:
		default:
			return nil, fmt.Errorf("get initialisation section: the server sent %s", body.What(raw))
		}
		s.in, err = mp4.ParseInit(raw)
		if err == nil {
			err = usable(s.in)
		}
		switch {
		case errors.Is(err, mp4.ErrEncrypted):
			return nil, fmt.Errorf("%w: %w", errScheme, err)
		case err != nil:
			return nil, fmt.Errorf("read initialisation section: %w", err)
		}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*section), nil
}

// usable is nil if one track of a section can be recorded, else why not.
func usable(in *mp4.Init) error {
	err := errors.New("it has no track")
	for i := range in.Tracks {
		switch t := &in.Tracks[i]; {
		case t.Kind != media.Video && t.Kind != media.Audio:
		case t.Refused != nil:
			err = t.Refused
		default:
			return nil
		}
	}
	return err
}

// errScheme says that segments are encrypted in a way that nothing here undoes.
var errScheme = errors.New("encrypted")

// aesKey is the key of a set that can be used, nil if nothing is encrypted.
func aesKey(keys []hls.Key) (*hls.Key, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	for i := range keys {
		if k := &keys[i]; k.Method == "AES-128" && k.Format == "identity" {
			return k, nil
		}
	}
	k := keys[0]
	if k.Format != "identity" && k.Format != "" {
		return nil, fmt.Errorf("%w with %s for %s, which is not supported", errScheme, k.Method, k.Format)
	}
	return nil, fmt.Errorf("%w with %s, which is not supported", errScheme, k.Method)
}
