package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/liverec/liverec/e2e/rig"
	"github.com/liverec/liverec/pkg/liveroom"
)

// line measures how long it takes from the end of the stream until the last object is verified, where the line is 1.3
// times as wide as the stream: for parts of several lengths, and for the two ways that people use today.
func (b *bench) line(ctx context.Context) error {
	if b.s3 == "" {
		b.row("line of 1.3 x the bit rate", "not measured", "versitygw is not installed", "5 s")
		return nil
	}
	for _, rate := range []float64{bitrate, 20_000_000} {
		if err := b.narrow(ctx, rate); err != nil {
			return err
		}
	}
	return nil
}

// headChunk is the first chunk of a part: it is patched when the part is closed, so that it leaves last. S3 takes no
// smaller ones.
const headChunk = 5 << 20

// outcome is what became of one way to bring a broadcast over the line.
type outcome struct {
	sealed time.Time // when the last part got its name
	proven time.Time // when the last answer for a media object came
	// behind is how many bytes of media the line had to carry behind the end of the stream. Of a request that was under way
	// it counts what its share of the time says.
	behind int64
	store  time.Duration // what the store took to put the last object together
}

// narrow does it for one bit rate. Up to what is patched at the end of a part, all can have left before; so the floor is
// the time that the line needs for the head chunk.
func (b *bench) narrow(ctx context.Context, rate float64) error {
	s3, err := rig.RunS3(b.s3, filepath.Join(b.dir, fmt.Sprintf("line-s3-%.0f", rate/1e6)), 0)
	if err != nil {
		return err
	}
	defer s3.Stop()
	room, err := liveroom.New(liveroom.Config{Bitrate: int64(rate), Duration: b.live})
	if err != nil {
		return err
	}
	srv, err := room.Listen(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	room.Start(ctx)
	end := time.Now().Add(b.live)

	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	results := map[string]outcome{}
	way := func(name string, run func(p *rig.Proxy, dir string) error) error {
		proxy, err := rig.NewProxy(s3.Endpoint, nil, 1.3*rate)
		if err != nil {
			return err
		}
		dir := filepath.Join(b.dir, "line", fmt.Sprint(rate), name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		wg.Go(func() {
			defer proxy.Close()
			ended := make(chan struct{})
			var sealed time.Time
			var watching sync.WaitGroup
			watching.Go(func() { sealed = seal(dir, ended) })
			err := run(proxy, dir)
			close(ended)
			watching.Wait()
			var last time.Time
			var behind int64
			var store time.Duration
			for _, c := range answered(ctx, proxy) {
				if !strings.HasSuffix(c.Key, ".flv") {
					continue
				}
				if c.Done.After(last) {
					last = c.Done
				}
				if (c.Op == rig.OpPart || c.Op == rig.OpPut) && c.Done.After(end) {
					late := c.Done.Sub(end)
					if took := c.Done.Sub(c.At); late < took {
						behind += int64(float64(c.Bytes) * late.Seconds() / took.Seconds())
					} else {
						behind += c.Bytes
					}
				}
				if c.Op == rig.OpComplete && c.Done.After(end) {
					store = c.Done.Sub(c.At)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			results[name] = outcome{sealed, last, behind, store}
		})
		return nil
	}
	put := func(proxy *rig.Proxy, dir, file, key string) error {
		p, err := rig.Run{Bin: b.curl, Dir: dir, Args: []string{"-sS", "-f", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "AK:" + rig.Secret,
			"-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T", file, proxy.URL + "/" + rig.Bucket + "/" + key}}.StartProcess()
		if err != nil {
			return err
		}
		return wait(ctx, p, b.live*3)
	}
	lengths := []time.Duration{15 * time.Second, 45 * time.Second, 15 * time.Minute}
	for _, length := range lengths {
		if err := way("liverec "+length.String(), func(proxy *rig.Proxy, dir string) error {
			p, err := rig.Run{Bin: b.bin, Dir: dir, Args: []string{"record", srv.URL, "--once", "--segment", length.String(), "--to", s3.Dest(length.String(), proxy.URL)}}.StartProcess()
			if err != nil {
				return err
			}
			return wait(ctx, p, b.live*3)
		}); err != nil {
			return err
		}
	}
	if err := way("serial", func(proxy *rig.Proxy, dir string) error {
		p, err := rig.Run{Bin: b.curl, Dir: dir, Args: []string{"-sS", "-o", "out.flv", srv.URL}}.StartProcess()
		if err != nil {
			return err
		}
		if err := wait(ctx, p, b.live*2); err != nil {
			return err
		}
		return put(proxy, dir, "out.flv", "serial.flv")
	}); err != nil {
		return err
	}
	if b.ffmpeg != "" {
		if err := way("closed", func(proxy *rig.Proxy, dir string) error {
			p, err := rig.Run{Bin: b.ffmpeg, Dir: dir, Args: []string{"-v", "error", "-i", srv.URL, "-c", "copy", "-f", "segment", "-segment_time", "30", "-reset_timestamps", "1", "out%04d.flv"}}.StartProcess()
			if err != nil {
				return err
			}
			for i := 0; ; i++ {
				name, next := fmt.Sprintf("out%04d.flv", i), filepath.Join(dir, fmt.Sprintf("out%04d.flv", i+1))
				for p.Alive() {
					if _, err := os.Stat(next); err == nil {
						break
					}
					if err := sleep(ctx, 100*time.Millisecond); err != nil {
						return err
					}
				}
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					return nil
				}
				if err := put(proxy, dir, name, "closed/"+name); err != nil {
					return err
				}
			}
		}); err != nil {
			return err
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	share := func(name string) string {
		d := results[name].proven.Sub(end)
		return fmt.Sprintf("%.1f s (%.0f %% of the broadcast)", d.Seconds(), 100*d.Seconds()/b.live.Seconds())
	}
	at := fmt.Sprintf("line of 1.3 x %.1f Mbit/s", rate/1e6)
	floor := headChunk * 8 / (1.3 * rate)
	for _, length := range lengths {
		name := "liverec " + length.String()
		bound := ""
		if rate == bitrate {
			bound = "5 s"
		}
		b.row(at+": end of the stream to the last media object proven, parts of "+length.String(), share(name),
			fmt.Sprintf("the line needs %.1f s for what was left at the end, %.1f s of them for the head chunk; the store took %.1f s to complete",
				float64(results[name].behind)*8/(1.3*rate), floor, results[name].store.Seconds()), bound)
		b.row(at+": last part sealed to the last media object proven, parts of "+length.String(),
			fmt.Sprintf("%.1f s", results[name].proven.Sub(results[name].sealed).Seconds()), fmt.Sprintf("sealed %.1f s after the end", results[name].sealed.Sub(end).Seconds()), "")
	}
	b.row(at+": record, then upload", share("serial"), "", "")
	if b.ffmpeg != "" {
		b.row(at+": closed files of 30 s, one by one", share("closed"), "", "")
	}
	return nil
}

// answered gives the calls of a proxy once each has its answer: a client may have read it before the proxy says so.
func answered(ctx context.Context, p *rig.Proxy) []rig.Call {
	for range 500 {
		calls := p.Calls()
		if !slices.ContainsFunc(calls, func(c rig.Call) bool { return c.Done.IsZero() }) || sleep(ctx, 10*time.Millisecond) != nil {
			return calls
		}
	}
	return p.Calls() // somebody hung up
}

// seal gives the moment at which the newest part of a data folder lost its ".part", up to the end of the program.
func seal(dir string, ended <-chan struct{}) (at time.Time) {
	open := false
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := filepath.Glob(filepath.Join(dir, "liverec-data/media/*/P*.part"))
		if now := err == nil && len(found) > 0; now {
			open = true
		} else if open {
			open, at = false, time.Now()
		}
		select {
		case <-tick.C:
		case <-ended:
			return at
		}
	}
}
