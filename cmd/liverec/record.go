package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/pkg/status"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/uploader/dest"
)

// defaultTarget is where parts go if nobody says anything.
const defaultTarget = "file:./liverec-archive"

const (
	// keepSubmitted is how long a part stays on the disk after a submission has shown it, unless somebody says otherwise.
	keepSubmitted = 24 * time.Hour
	// longestSubmitted is the longest part that Bilibili transcodes, largestSubmitted the largest that it takes from us.
	longestSubmitted = 10 * time.Hour
	largestSubmitted = 29 << 30
)

func record(c *cli.Context, std streams) error {
	opt, err := recording(c)
	if err == nil {
		err = only(c, 1, 1, "the address of a room")
	}
	if err != nil {
		return err
	}
	watch, err := findRoom(c.Args().First(), opt)
	if err != nil {
		return err
	}
	if len(opt.to) == 0 {
		opt.to = []string{defaultTarget}
	}
	ds, err := parseDests(opt.to)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(ds, func(d dest.Dest) bool { return d.Submission != nil }) {
		if !opt.keepSet {
			opt.keep = keepSubmitted
		}
		if err := submittable(opt.segment, opt.maxSize); err != nil {
			return err
		}
	}
	return runRecord(c.Context, opt, std, ds, []watched{watch}, nil)
}

// watched is a room with the one who knows whether it is live.
type watched struct {
	room segment.Room
	opt  roomOptions
	// resolver makes that one. pressed says whether the disk runs short; nil: it never does.
	resolver func(log zerolog.Logger, pressed func() bool) recorder.Resolver
	// identify asks who the room is where it can be written in several ways; nil: there is one.
	identify func(ctx context.Context, log zerolog.Logger) (segment.RoomID, error)
}

// findRoom finds the site of an address, or says which sites there are.
func findRoom(raw string, opt options) (watched, error) {
	return newSites(opt.sites.cookies).find(raw, opt.roomOptions)
}

// runRecord is `record` and `demo`: it opens the house, records until it is over or told to stop, and says how it went.
// told, if not nil, hears of every picture and of the end.
func runRecord(ctx context.Context, opt options, std streams, ds []dest.Dest, rooms []watched, told func(pipeline.Result, []segment.Broadcast)) error {
	// One room needs a hundredth of a core. With more than one processor the runtime wakes a second thread at each step
	// from socket to file, to look for work that is not there: measured at real pace, a third of the CPU.
	if os.Getenv("GOMAXPROCS") == "" && len(rooms) == 1 {
		runtime.GOMAXPROCS(1)
	}
	log, screen, err := logger(opt, std)
	if err != nil {
		return err
	}
	soft, hard, done := signals(ctx,
		func() {
			log.Info().Str("grace", opt.stopGrace.String()).Msg("stopping: the open part is closed, uploads in flight are finished; once more to leave at once")
		},
		func() { log.Warn().Msg("leaving at once; `liverec resume` sends what is left") }, nil)
	defer done()
	h, err := open(soft, opt, std, log, screen)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := h.furnish(soft, ds, false); err != nil {
		return h.leave(soft, err)
	}
	h.identify(soft, rooms)
	keep := map[segment.RoomID]bool{}
	for _, w := range rooms {
		keep[w.room.ID] = true
	}
	rest, err := recorder.Recover(soft, recorder.RecoverConfig{Grace: opt.grace}, recorder.Deps{Journal: h.led, Dir: h.dir, Log: log}, keep)
	if err != nil {
		return h.leave(soft, fmt.Errorf("go on where the last run ended: %w", err))
	}
	s, err := h.stages(rooms)
	if err != nil {
		return h.leave(soft, err)
	}
	s.rest = rest
	res, err := s.run(soft, hard, pipeline.Config{Once: opt.once, StopGrace: opt.stopGrace})
	bs := h.since(began)
	if told != nil {
		told(res, bs)
	}
	code, msg := h.outcome(res, bs, err)
	h.part(hard)
	if code == exitOK && msg == "" {
		return nil
	}
	return &exitStatus{code, msg}
}

// since lists the broadcasts that this run touched.
func (h *house) since(began time.Time) []segment.Broadcast {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := h.led.Broadcasts(ctx, history)
	if err != nil {
		return nil // the ledger is the one that says why, elsewhere
	}
	var out []segment.Broadcast
	for _, b := range all {
		if b.Session.Heard.After(began) || b.Session.Started.After(began) {
			out = append(out, b)
		}
	}
	return out
}

// outcome says how a run ended: a report per broadcast, and the exit status of the contract.
func (h *house) outcome(res pipeline.Result, bs []segment.Broadcast, err error) (int, string) {
	gaps := 0
	for _, b := range bs {
		r := status.MakeReport(b)
		gaps += r.Gaps
		ev := h.log.Info()
		if r.Balance != nil {
			ev = h.log.Error().Err(r.Balance)
		}
		ev.Str("broadcast", string(b.Session.ID)).Str("room", b.Session.Room.Name).Str("name", b.Session.Name).Msg(r.String())
		for i, g := range b.Gaps {
			if i == 20 {
				h.log.Warn().Int("more", len(b.Gaps)-i).Msg("further gaps stand in manifest.json")
				break
			}
			h.log.Warn().Uint32("after_part", g.AfterSeq).Str("at", clock(g.AtMedia)).Str("missing", status.Span(g.Length)).Msg("gap: " + g.Why)
		}
	}
	for _, p := range res.Parked {
		h.log.Error().Str("target", string(p.Target)).Str("part", p.ID.String()).Msg("needs a person: " + p.Why)
	}
	switch {
	case err != nil:
		if res.Unsafe > 0 {
			return exitUnsafe, "liverec: " + oneLine(err.Error()) + "\n  " + unsafeLine(res.Unsafe)
		}
		return exitError, "liverec: " + oneLine(err.Error())
	case !res.Safe():
		return exitUnsafe, "liverec: " + unsafeLine(res.Unsafe)
	case h.opt.strict && gaps > 0:
		return exitGaps, fmt.Sprintf("liverec: everything is safe, but the recording has %d %s (--strict)", gaps, word1(gaps, "gap"))
	}
	return exitOK, ""
}

func unsafeLine(n int64) string {
	if n == 0 {
		return "the archive's list of parts is not up to date yet; `liverec resume` finishes it"
	}
	return status.Size(n) + " of media lie on this disk only; `liverec resume` sends them"
}
