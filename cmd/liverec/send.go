package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/liverec/liverec/pipeline"
	"github.com/liverec/liverec/pkg/naming"
	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/bilibili"
)

func uploadFlags() []cli.Flag {
	return []cli.Flag{text("name", "{room}/{date}_{time}_{title}", "remote folder; {room} is \"upload\", {title} the name of the first file")}
}

// resume finishes what an earlier run left, and exits.
func resume(c *cli.Context, std streams) error {
	opt, err := transfer(c)
	if err == nil {
		err = only(c, 0, 0, "")
	}
	if err != nil {
		return err
	}
	opt.strict, opt.once = c.Bool("strict"), true
	ds, err := parseDests(opt.to)
	if err != nil {
		return err
	}
	// Nothing to resume is no reason to make a data folder.
	if _, err := os.Stat(opt.data); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(std.err, "nothing to resume: there is no data folder", opt.data)
		return nil
	}
	return withHouse(c.Context, opt, std, func(ctx context.Context, h *house) error {
		if err := h.furnish(ctx, ds, len(ds) == 0); err != nil {
			return err
		}
		if _, err := h.led.UnparkAll(ctx); err != nil {
			return err
		}
		for _, d := range h.targets { // whoever asks for a resume says that a throttled account is worth a try
			t, ok := d.Target.(*bilibili.Target)
			if !ok {
				continue
			}
			if _, gov, err := t.Account(); err == nil {
				if err := gov.Release(); err != nil {
					h.log.Warn().Err(err).Str("target", string(t.ID())).Msg("what the account waits out goes on")
				}
			}
		}
		if _, err := recorder.Recover(ctx, recorder.RecoverConfig{Now: true}, recorder.Deps{Journal: h.led, Dir: h.dir, Log: h.log}, nil); err != nil {
			return fmt.Errorf("close what the last run left open: %w", err)
		}
		if len(ds) > 0 {
			if _, err := h.led.Assign(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// upload sends files of the user through the same transport. They are never changed or removed.
func upload(c *cli.Context, std streams) error {
	opt, err := transfer(c)
	if err == nil {
		err = only(c, 1, -1, "a file")
	}
	if err != nil {
		return err
	}
	if len(opt.to) == 0 {
		return usagef("--to: where to is missing; right would be `liverec upload FILE --to DEST`")
	}
	if opt.name, err = naming.Parse(c.String("name")); err != nil {
		return usagef("%s: %v", label(c, "name"), err)
	}
	opt.once = true
	ds, err := parseDests(opt.to)
	if err != nil {
		return err
	}
	files := c.Args().Slice()
	for i, f := range files {
		fi, err := os.Stat(f)
		switch {
		case err != nil:
			return usagef("%s: %v; right would be a file", clip(f), errors.Unwrap(err))
		case !fi.Mode().IsRegular():
			return usagef("%s: it is not a file; right would be a recording", clip(f))
		case fi.Size() == 0:
			return usagef("%s: it is empty; right would be a recording", clip(f))
		}
		if files[i], err = filepath.Abs(f); err != nil {
			return fmt.Errorf("find %s: %w", f, err)
		}
	}
	return withHouse(c.Context, opt, std, func(ctx context.Context, h *house) error {
		if err := h.furnish(ctx, ds, false); err != nil {
			return err
		}
		return h.adopt(ctx, files)
	})
}

// adopt hands files of the user to the ledger as one broadcast.
func (h *house) adopt(ctx context.Context, files []string) error {
	now := time.Now()
	title := strings.TrimSuffix(filepath.Base(files[0]), filepath.Ext(files[0]))
	room := segment.Room{ID: "file:upload", URL: "file:upload", Name: "upload", Site: "file"}
	se := segment.Session{Room: room, Title: naming.Line(title), Started: now.UTC(), Heard: now.UTC(), Ended: now.UTC()}
	se.Name = h.opt.name.Name(naming.Facts{Site: room.Site, Room: room.Name, Title: title, At: now})
	var segs []segment.Segment
	for i, f := range files {
		sum, size, mod, err := hashFile(ctx, f, &h.sums)
		if err != nil {
			return err
		}
		segs = append(segs, segment.Segment{ID: segment.ID{Seq: uint32(i + 1)}, Room: room.ID, Path: f, Foreign: true, Start: mod, Size: size, SHA256: sum, Sealed: true, Cut: segment.CutEnd})
		h.log.Info().Str("file", f).Int64("bytes", size).Str("sha256", sum.String()).Msg("file read")
	}
	got, err := h.led.Adopt(ctx, se, segs...)
	if err != nil {
		return err
	}
	h.log.Info().Str("broadcast", string(got.ID)).Str("name", got.Name).Int("files", len(files)).Msg("sending")
	return nil
}

// hashFile reads a file once, for its SHA-256 and for the sums of the chunks that will be sent.
func hashFile(ctx context.Context, name string, sums *uploader.Sums) (sum segment.Sum, size int64, mod time.Time, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, 0, mod, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return sum, 0, mod, fmt.Errorf("read %s: %w", name, err)
	}
	hash, buf := sha256.New(), make([]byte, 128<<10)
	blocks, keep := sums.Learn(name, fi)
	for {
		n, err := f.Read(buf)
		hash.Write(buf[:n])
		blocks.Write(buf[:n]) // neither of them fails
		size += int64(n)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return sum, 0, mod, fmt.Errorf("read %s: %w", name, err)
		}
	}
	keep()
	return segment.Sum(hash.Sum(nil)), size, fi.ModTime().UTC(), nil
}

// withHouse runs the house without a room: prepare says what there is to do, then everything is sent, proven and freed.
func withHouse(parent context.Context, opt options, std streams, prepare func(context.Context, *house) error) error {
	log, screen, err := logger(opt, std)
	if err != nil {
		return err
	}
	soft, hard, done := signals(parent,
		func() { log.Info().Msg("stopping: uploads in flight are finished; once more to leave at once") },
		func() { log.Warn().Msg("leaving at once; `liverec resume` sends what is left") }, nil)
	defer done()
	h, err := open(soft, opt, std, log, screen)
	if err != nil {
		return err
	}
	if err := prepare(soft, h); err != nil {
		return h.leave(soft, err)
	}
	before, err := h.led.Active(soft)
	if err != nil {
		return h.leave(soft, err)
	}
	s, err := h.stages(nil)
	if err != nil {
		return h.leave(soft, err)
	}
	res, err := s.run(soft, hard, pipeline.Config{Once: true, StopGrace: opt.stopGrace})
	bs := h.again(before)
	code, msg := h.outcome(res, bs, err)
	h.part(hard)
	if code == exitOK && msg == "" {
		return nil
	}
	return &exitStatus{code, msg}
}

// again reads broadcasts anew.
func (h *house) again(bs []segment.Broadcast) []segment.Broadcast {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var out []segment.Broadcast
	for _, b := range bs {
		if n, err := h.led.Broadcast(ctx, b.Session.ID); err == nil {
			out = append(out, n)
		}
	}
	return out
}
