package mend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/liverec/liverec/pkg/durable"
	"github.com/liverec/liverec/pkg/media/probe"
)

// What makes a file one that cannot be repaired.
var (
	// ErrForeign: it is no recording that liverec reads.
	ErrForeign = errors.New("neither FLV nor MP4 nor MPEG-TS")
	// ErrLost: an MP4 whose index was never written. Nothing in it says where a frame begins.
	ErrLost = errors.New("an MP4 without its index (moov): it was never closed, and nothing in it says where a frame begins, so it is lost; " +
		"a program that takes the index of another recording with the same settings may still save parts of it")
	// ErrNothing: no frame that a decoder could start with.
	ErrNothing = errors.New("no media in it that can be played")
	// ErrUnsound: a copy was written, and it is not sound.
	ErrUnsound = errors.New("the copy is not sound")
)

// Options say where the parts go.
type Options struct {
	Dir string // "": beside the file
}

// File writes a repaired copy of the file of that name: NAME.repaired.flv or .mp4, with numbers if it takes several parts.
// It never overwrites. The report is right as far as it goes when there is an error; then nothing was left behind except
// with ErrUnsound.
func File(ctx context.Context, name string, opt Options) (Report, error) {
	r := Report{File: name, Wrong: []Finding{}, Done: []Deed{}, Left: []string{}, Parts: []Part{}}
	err := r.run(ctx, opt)
	if err != nil {
		r.Error = err.Error()
	}
	return r, err
}

func (r *Report) run(ctx context.Context, opt Options) error {
	f, err := os.Open(r.File)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no file", r.File)
	}
	r.Size = info.Size()
	folder := opt.Dir
	if folder == "" {
		folder = filepath.Dir(r.File)
	}
	base := filepath.Base(r.File)
	base = strings.TrimSuffix(base, filepath.Ext(base)) + ".repaired"
	kind, err := sniff(f, r.Size)
	if err != nil {
		return err
	}
	r.Container = kind
	if err := free(folder, base, kind == "flv"); err != nil {
		return err
	}
	found, err := probe.Check(f, r.Size)
	if err == nil {
		r.judge(found.Problems)
	} else {
		r.wrong(0, 1, "%v", err)
	}
	dir, err := durable.Open(folder, nil)
	if err != nil {
		return durable.Explain(folder, err)
	}
	defer dir.Close()
	s := &sink{ctx: ctx, dir: dir, base: base, report: r, length: max(found.Media()+found.Media()/8, 15*time.Minute)}
	in := source{ctx: ctx, file: f, size: r.Size, report: r, found: found, out: s}
	switch kind {
	case "flv":
		err = in.flv()
	case "mp4":
		err = in.mp4()
	case "ts":
		err = in.ts()
	}
	if err == nil {
		err = s.close()
	}
	if err == nil && len(s.parts) == 0 {
		err = ErrNothing
	}
	if err != nil {
		return errors.Join(err, s.discard())
	}
	if err := s.publish(); err != nil {
		return err
	}
	err = r.examine(s)
	if slices.ContainsFunc(r.Parts, func(p Part) bool { return p.skewed }) {
		// There is no media to mend it with: it is a fact about the recording, and told as one.
		r.Wrong = slices.DeleteFunc(r.Wrong, func(f Finding) bool { return f.code == probe.Skew })
	}
	if r.Sound = len(r.Wrong) == 0; !r.Sound && len(r.Done) == 0 {
		r.Done = append(r.Done, Deed{Part: 1, What: "written anew, with a full index"})
	}
	return err
}

// sniff says what a file is. One that begins with rubbish is what the first sound piece in its first MiB is.
func sniff(f io.ReaderAt, size int64) (string, error) {
	head := make([]byte, min(size, 1<<20))
	if n, err := f.ReadAt(head, 0); n < len(head) {
		return "", fmt.Errorf("read its begin: %w", err)
	}
	for at := range head {
		b := head[at:]
		switch {
		case len(b) >= 9 && string(b[:4]) == "FLV\x01":
			return "flv", nil
		case len(b) >= 8 && isTop(string(b[4:8])) && (at == 0 || string(b[4:8]) == "ftyp" || string(b[4:8]) == "moof"):
			return "mp4", nil
		case b[0] == 0x47 && len(b) > 4*188 && b[188] == 0x47 && b[2*188] == 0x47 && b[3*188] == 0x47 && b[4*188] == 0x47:
			return "ts", nil
		case at == 0 && len(b) <= 4*188 && len(b) >= 188 && b[0] == 0x47 && len(b)%188 == 0:
			return "ts", nil
		}
	}
	if looksLikeTags(head) {
		return "flv", nil
	}
	return "", ErrForeign
}

// looksLikeTags reports whether FLV tags follow each other somewhere, in a file that lost its head.
func looksLikeTags(b []byte) bool {
	for at := 0; at+15 < len(b); at++ {
		pos, n := at, 0
		for ; n < 3 && pos+15 < len(b) && (b[pos] == 8 || b[pos] == 9 || b[pos] == 18); n++ {
			size := int(b[pos+1])<<16 | int(b[pos+2])<<8 | int(b[pos+3])
			if size == 0 || pos+15+size > len(b) {
				break
			}
			end := pos + 11 + size
			if int(b[end])<<24|int(b[end+1])<<16|int(b[end+2])<<8|int(b[end+3]) != 11+size {
				break
			}
			pos += 15 + size
		}
		if n == 3 {
			return true
		}
	}
	return false
}

// free refuses if one of the names that may be needed is taken: MP4 is made of everything, FLV of FLV alone.
func free(folder, base string, tags bool) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it is made
	}
	if err != nil {
		return durable.Explain(folder, err)
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), base+".")
		if !ok {
			continue
		}
		rest = strings.TrimSuffix(rest, ".part")
		if number, ext, ok := strings.Cut(rest, "."); ok && strings.Trim(number, "0123456789") == "" {
			rest = ext
		}
		if rest == "flv" && tags || rest == "mp4" {
			return fmt.Errorf("%s is there already, and nothing is overwritten", filepath.Join(folder, e.Name()))
		}
	}
	return nil
}

// discard removes what was written so far.
func (s *sink) discard() error {
	var errs []error
	for _, p := range s.parts {
		p.file.Close() // it may be closed; what it holds is not wanted
		errs = append(errs, s.dir.Remove(p.name))
	}
	return errors.Join(errs...)
}

// publish gives the parts their names.
func (s *sink) publish() error {
	for i, p := range s.parts {
		name := s.base + p.ext()
		if len(s.parts) > 1 {
			name = fmt.Sprintf("%s.%d%s", s.base, i+1, p.ext())
		}
		if _, err := s.dir.Stat(name); err == nil {
			return fmt.Errorf("%s came into being meanwhile; the copy is %s", s.dir.Abs(name), s.dir.Abs(p.name))
		}
		if err := s.dir.Rename(p.name, name); err != nil {
			return err
		}
		p.name = name
	}
	return nil
}

// examine looks at each part with the independent checker.
func (r *Report) examine(s *sink) error {
	unsound := ""
	for _, p := range s.parts {
		path := s.dir.Abs(p.name)
		found, err := probe.CheckFile(path)
		if err != nil {
			return err
		}
		if p.mp4 != nil && found.Content != p.content && unsound == "" {
			unsound = fmt.Sprintf("%s: its content is %s, %s was written", p.name, hex(found.Content), hex(p.content))
		}
		part := Part{Path: path, Size: found.Size, DurationMS: found.Media().Milliseconds(), Content: hex(found.Content)}
		for _, t := range found.Tracks {
			if t.Kind == probe.Video {
				part.VideoFrames += int64(t.Frames)
			} else {
				part.AudioFrames += int64(t.Frames)
			}
		}
		for _, x := range found.Problems {
			if len(part.Problems) < 10 {
				part.Problems = append(part.Problems, x.String())
			}
			if unsound == "" && !slices.Contains(excused, x.Code) {
				unsound = p.name + ": " + x.String()
			}
			if x.Code == probe.Skew {
				r.Left = append(r.Left, x.Text)
				part.skewed = true
			}
		}
		r.Parts = append(r.Parts, part)
	}
	if unsound != "" {
		return fmt.Errorf("%w: %s", ErrUnsound, unsound)
	}
	return nil
}
