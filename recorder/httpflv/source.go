package httpflv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/recorder/pace"
)

var _ recorder.Source = (*Source)(nil)

// Source is one open HTTP-FLV connection.
type Source struct {
	cancel    context.CancelFunc // ends the request, and with it a read that blocks
	transport *http.Transport
	body      io.ReadCloser
	first     []byte // what Open has read already
	idle      time.Duration
	host      string
	gather    atomic.Bool // its connections may let bytes gather
	odd       *Oddities   // nil: nobody wants to know
	watch     *pace.Watch // nil: nobody does
}

// Host is where the bytes come from, after redirects: "host:port".
func (s *Source) Host() string { return s.host }

// Close hangs up.
func (s *Source) Close() error {
	s.cancel()
	if s.body != nil {
		s.body.Close() // its error is that of a connection which nobody wants any more
	}
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	return nil
}

// Run reads until ctx is done, the stream ends (io.EOF, wrapped), or the connection fails or stays silent for too
// long. It sends one batch per read, also when ctx is done meanwhile: what was received is recorded. It hangs up at
// the end.
func (s *Source) Run(ctx context.Context, out chan<- *media.Batch) error {
	defer s.Close()
	defer context.AfterFunc(ctx, s.cancel)()

	var silent atomic.Bool
	watch := time.AfterFunc(s.idle, func() {
		silent.Store(true)
		s.cancel()
	})
	defer watch.Stop()

	s.gather.Store(true)
	r := io.MultiReader(bytes.NewReader(s.first), &watched{s.body, watch, s.idle})
	cfg := flv.DemuxerConfig{}
	if s.odd != nil {
		cfg.Events = func(e flv.Event) { s.odd.add(s.host, e) }
	}
	d := flv.NewDemuxer(cfg)
	var err error
	if s.watch != nil {
		s.watch.Host = s.host
	}
	for err == nil {
		var b *media.Batch
		if b, err = d.Fill(r); b != nil {
			watch.Stop() // while the receiver is slow, the silence is our own
			given := s.give(b, out)
			watch.Reset(s.idle)
			if err == nil {
				err = given
			}
		}
	}
	if b := d.Close(); b != nil {
		out <- b
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case silent.Load():
		return fmt.Errorf("no byte for %v", s.idle)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("source closed the connection: %w", io.EOF)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("source broke off: %w", err)
	}
	return plain(err)
}

// give hands a batch on. The error is that of Config.Watch, which says to hang up.
func (s *Source) give(b *media.Batch, out chan<- *media.Batch) error {
	if s.watch == nil {
		out <- b
		return nil
	}
	came := time.Now()
	s.watch.Add(b, came)
	out <- b
	now := time.Now()
	return s.watch.Check(now, now.Sub(came))
}

// watched puts the silence off at each byte.
type watched struct {
	r     io.Reader
	watch *time.Timer
	idle  time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.watch.Reset(w.idle)
	}
	return n, err
}
