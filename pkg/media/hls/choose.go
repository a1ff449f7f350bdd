package hls

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Choice is the form of a stream that was chosen.
type Choice struct {
	Variant Variant
	// Backups are the same form at other places, in the order of the playlist.
	Backups []Variant
	// Audio are the renditions of the variant's audio group. One with a URI is a playlist of its own that belongs to the
	// recording; without, its sound is inside the variant's segments.
	Audio []Rendition
}

// QualityError says that a playlist does not offer what was asked for.
type QualityError struct{ What string }

func (e *QualityError) Error() string { return "choose a quality: " + e.What }

// Separate reports whether sound comes in a playlist of its own: whoever records the variant alone has silent video.
func (c Choice) Separate() bool {
	return len(c.Audio) > 0 && !slices.ContainsFunc(c.Audio, func(r Rendition) bool { return r.URI == "" })
}

// Compare orders variants from the lowest quality to the best: what is called the source itself wins, then height, then
// frame rate, then average and greatest bandwidth. The order in which a playlist names them means nothing.
func Compare(a, b Variant) int {
	average := 0
	if a.AverageBandwidth > 0 && b.AverageBandwidth > 0 {
		average = cmp.Compare(a.AverageBandwidth, b.AverageBandwidth)
	}
	return cmp.Or(cmp.Compare(a.source(), b.source()), cmp.Compare(a.Height, b.Height), cmp.Compare(a.FrameRate, b.FrameRate), average,
		cmp.Compare(a.Bandwidth, b.Bandwidth))
}

// source is 1 for what a platform calls the stream as it was sent.
func (v Variant) source() int {
	for _, n := range [...]string{v.Name, v.Video, v.StableID} {
		switch strings.ToLower(n) {
		case "source", "chunked", "original":
			return 1
		}
	}
	return 0
}

// AudioOnly reports whether a variant certainly has no picture: it names codecs and no size, and all codecs are known to
// be sound or text.
func (v Variant) AudioOnly() bool {
	return v.Height == 0 && len(v.Codecs) > 0 && !slices.ContainsFunc(v.Codecs, func(c string) bool {
		c, _, _ = strings.Cut(strings.ToLower(c), ".")
		switch c {
		case "mp4a", "mp3", "ac-3", "ec-3", "ac-4", "opus", "flac", "alac", "vorbis", "dtsc", "dtse", "dtsh", "dtsl", "dtsx", "iamf", "mhm1",
			"stpp", "wvtt":
			return false
		}
		return true
	})
}

// Choose picks a variant. quality is
//
//   - "", "best" or "auto": the best one,
//   - "worst": the lowest one,
//   - "audio": the best one without a picture,
//   - the name of a variant or of its video group, in any case of letters,
//   - a height, "720" or "720p": the best one that is not higher, or the lowest one if all are,
//   - a height and a frame rate, "720p30": likewise, and of those the best one that is not faster, if one is not.
//
// Variants without a picture are left aside unless there is nothing else or they were asked for.
func Choose(m *Master, quality string) (Choice, error) {
	all := m.Variants
	pictures := slices.DeleteFunc(slices.Clone(all), Variant.AudioOnly)
	among := pictures
	if len(among) == 0 {
		among = all
	}
	if len(among) == 0 {
		return Choice{}, &QualityError{"the playlist offers none that can be opened"}
	}
	var v Variant
	switch q := strings.ToLower(strings.TrimSpace(quality)); q {
	case "", "best", "auto":
		v = best(among)
	case "worst":
		v = slices.MinFunc(among, Compare)
	default:
		if named := keep(all, func(v Variant) bool { return named(m, v, q) }); len(named) > 0 {
			v = best(named)
			break
		}
		tall, fast, rated := strings.Cut(q, "p")
		height, err := strconv.Atoi(tall)
		rate, err2 := strconv.ParseFloat(fast, 64)
		if rated && fast != "" && (err2 != nil || rate <= 0) {
			err = err2
			height = 0
		}
		switch {
		case q == "audio":
			if among = keep(all, Variant.AudioOnly); len(among) == 0 {
				return Choice{}, &QualityError{"no variant is sound alone"}
			}
			v = best(among)
		case err != nil || height <= 0:
			return Choice{}, &QualityError{fmt.Sprintf("no variant is called %q", quality)}
		default:
			if fits := keep(among, func(v Variant) bool { return v.Height <= height }); len(fits) > 0 {
				if slow := keep(fits, func(v Variant) bool { return v.FrameRate < rate+1 }); rate > 0 && len(slow) > 0 {
					fits = slow
				}
				v = best(fits)
			} else {
				v = slices.MinFunc(among, Compare)
			}
		}
	}
	return Pick(m, v), nil
}

// Pick is the choice of a variant that is known already, with its backups and its sound.
func Pick(m *Master, v Variant) Choice {
	c := Choice{Variant: v}
	for _, other := range m.Variants {
		if other.URL != v.URL && sameForm(v, other) && !slices.ContainsFunc(c.Backups, func(b Variant) bool { return b.URL == other.URL }) {
			c.Backups = append(c.Backups, other)
		}
	}
	if v.Audio != "" {
		for _, r := range m.Renditions {
			if r.Type == "AUDIO" && r.Group == v.Audio {
				c.Audio = append(c.Audio, r)
			}
		}
	}
	return c
}

// Ladder is the forms that are worth stepping between, from the lowest to the best: each once, those without a picture
// only if there are no others.
func Ladder(m *Master) []Variant {
	vs := slices.DeleteFunc(slices.Clone(m.Variants), Variant.AudioOnly)
	if len(vs) == 0 {
		vs = slices.Clone(m.Variants)
	}
	slices.SortStableFunc(vs, Compare)
	return slices.CompactFunc(vs, sameForm)
}

// Same reports whether two variants are one form at two places, or of two playlists.
func Same(a, b Variant) bool { return sameForm(a, b) }

// best is the greatest variant; of equal ones the first.
func best(vs []Variant) Variant { return slices.MaxFunc(vs, Compare) }

func keep(vs []Variant, want func(Variant) bool) []Variant {
	return slices.DeleteFunc(slices.Clone(vs), func(v Variant) bool { return !want(v) })
}

// named reports whether a variant goes by a name, which is in lower case: its own, that of its video group, or that of a
// rendition in that group.
func named(m *Master, v Variant, name string) bool {
	if strings.ToLower(v.Name) == name || strings.ToLower(v.Video) == name || strings.ToLower(v.StableID) == name {
		return true
	}
	return v.Video != "" && slices.ContainsFunc(m.Renditions, func(r Rendition) bool {
		return r.Type == "VIDEO" && r.Group == v.Video && strings.ToLower(r.Name) == name
	})
}

// sameForm reports whether two variants are one form at two places: size, frame rate and codecs agree, and the bandwidth
// does too or the host is another.
func sameForm(a, b Variant) bool {
	if a.Width != b.Width || a.Height != b.Height || a.FrameRate != b.FrameRate || !slices.Equal(a.Codecs, b.Codecs) {
		return false
	}
	if a.Bandwidth == b.Bandwidth {
		return a.Bandwidth > 0 || a.Height > 0 // else nothing is known of either
	}
	return a.Height > 0 && host(a.URL) != host(b.URL)
}

func host(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
