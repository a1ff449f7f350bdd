package flv

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/yutopp/go-flv/tag"

	"github.com/liverec/liverec/pkg/media"
)

const (
	indexInterval = 1900 // ms between entries of the index
	maxEntries    = 16 << 10
	minEntries    = 4
	entrySize     = 18 // a number in each of two arrays
	extraRoom     = 1024
	maxPad        = 4 << 10
	deltaMax      = 1000 // ms; the longest step that the frame rate is measured from

	keyKeyframes = "keyframes"
	keyPadding   = "padding"
	creator      = "liverec"
)

// ownKeys are the properties that a Head writes itself; what a server says about them is stale or wrong.
var ownKeys = map[string]bool{
	"duration": true, "width": true, "height": true, "framerate": true, "videocodecid": true, "videodatarate": true,
	"audiocodecid": true, "audiodatarate": true, "audiosamplerate": true, "audiosamplesize": true, "stereo": true,
	"filesize": true, "datasize": true, "videosize": true, "audiosize": true, "lasttimestamp": true,
	"lastkeyframetimestamp": true, "lastkeyframelocation": true, "hasAudio": true, "hasVideo": true, "hasMetadata": true,
	"hasKeyframes": true, "canSeekToEnd": true, "metadatacreator": true, keyKeyframes: true, keyPadding: true,
	// Their neighbours that others write and that would be wrong here.
	"displayWidth": true, "displayHeight": true, "fps": true, "filepositions": true, "times": true,
}

// HeadConfig is what the head of a part is made from.
type HeadConfig struct {
	Video []byte   // body of the AVC sequence header tag; nil: no video
	Audio []byte   // body of the AAC sequence header tag; nil: no audio
	Meta  Metadata // what the server said; its keys that liverec does not write itself are kept behind ours, as far as they fit
	// Limit is the longest media time that the part is meant to have: it decides how much room the index gets. A part
	// that grows beyond it, or that has more key frames, gets a coarser index.
	Limit time.Duration
	// ScriptSize is the size of the script tag's body where it is given by a file that exists; 0: it follows from Limit.
	ScriptSize int
}

// Head is the head of one part: file header, onMetaData with a seek index of constant size, sequence headers. It counts
// the tags that are written behind it, and can at any time say what the head should be now: always the same number of
// bytes. Nothing of it is safe for more than one goroutine.
type Head struct {
	cfg        HeadConfig
	video      VideoConfig
	audio      AudioConfig
	hasVideo   bool
	hasAudio   bool
	extras     []byte // properties of the server, encoded
	nExtras    int
	capacity   int // entries of the index
	scriptSize int // body of the script tag
	headLen    int64
	buf        []byte

	size                   int64
	videoBytes, audioBytes int64 // of their tags without PreviousTagSize
	frames, sounds         int64
	firstVideo, lastVideo  int64
	firstAudio, lastAudio  int64
	lastKey, lastKeyAt     int64 // ms, offset
	lastIsKey              bool
	last                   int64
	deltas                 [deltaMax + 1]uint32 // video steps by length

	interval int64
	times    []int64 // ms
	offsets  []int64
}

// NewHead makes the head of a part. Its error is ErrBadConfig for sequence headers that cannot be used.
func NewHead(cfg HeadConfig) (*Head, error) {
	h := &Head{cfg: cfg, hasVideo: len(cfg.Video) > 0, hasAudio: len(cfg.Audio) > 0, interval: indexInterval}
	var err error
	if h.hasVideo {
		if h.video, err = ParseVideoConfig(cfg.Video); err != nil {
			return nil, err
		}
	}
	if h.hasAudio {
		if h.audio, err = ParseAudioConfig(cfg.Audio); err != nil {
			return nil, err
		}
	}
	if !h.hasVideo && !h.hasAudio {
		return nil, badConfig("neither video nor audio")
	}
	fixed := len(h.appendScript(nil)) // with no entry, no extras, no padding
	if cfg.ScriptSize == 0 {
		want := int(min((max(cfg.Limit, 0).Milliseconds()+indexInterval-1)/indexInterval+2, maxEntries))
		h.capacity = max(want, minEntries)
		h.scriptSize = fixed + h.capacity*entrySize + extraRoom
		h.extras, h.nExtras = encodeExtras(cfg.Meta, extraRoom)
	} else {
		room := cfg.ScriptSize - fixed
		if room < minEntries*entrySize || cfg.ScriptSize > media.MaxBody {
			return nil, fmt.Errorf("lay out the head of a part: a script of %d bytes has no room for an index", cfg.ScriptSize)
		}
		h.extras, h.nExtras = encodeExtras(cfg.Meta, min(extraRoom, room-minEntries*entrySize))
		h.capacity = max((room-extraRoom)/entrySize, minEntries)
		if left := room - h.capacity*entrySize - len(h.extras); left > maxPad {
			h.capacity += (left - maxPad + entrySize - 1) / entrySize
		}
		h.scriptSize = cfg.ScriptSize
	}
	h.headLen = int64(FileHeaderSize + TagOverhead + h.scriptSize)
	if h.hasVideo {
		h.times, h.offsets = make([]int64, 0, h.capacity), make([]int64, 0, h.capacity)
		// Many players skip entry 0, because it used to be the sequence header. So let it be that.
		h.times, h.offsets = append(h.times, 0), append(h.offsets, h.headLen)
		h.headLen += int64(TagOverhead + len(cfg.Video))
	}
	if h.hasAudio {
		h.headLen += int64(TagOverhead + len(cfg.Audio))
	}
	h.size = h.headLen
	return h, nil
}

// encodeExtras keeps what the server said beside our own keys, in its order, as long as it fits.
func encodeExtras(m Metadata, room int) (out []byte, n int) {
	seen := make(map[string]bool)
	for _, p := range m.Props {
		if ownKeys[p.Name] || seen[p.Name] || p.Name == "" || len(p.Name) > room {
			continue
		}
		next, ok := appendValue(appendName(out, p.Name), p.Value, 1)
		if !ok || len(next) > room {
			continue // next may have grown behind out; out itself is as it was
		}
		seen[p.Name] = true
		out, n = next, n+1
	}
	return out, n
}

// Len is the length of the head in bytes. It never changes.
func (h *Head) Len() int64 { return h.headLen }

// Size is the length of the file: the head and every tag that was added.
func (h *Head) Size() int64 { return h.size }

// ScriptSize is the size of the script tag's body, for HeadConfig.ScriptSize.
func (h *Head) ScriptSize() int { return h.scriptSize }

// Video is the configuration of the video track; ok is false if there is none.
func (h *Head) Video() (c VideoConfig, ok bool) { return h.video, h.hasVideo }

// Audio is the configuration of the audio track; ok is false if there is none.
func (h *Head) Audio() (c AudioConfig, ok bool) { return h.audio, h.hasAudio }

// Frames counts the media tags that were added.
func (h *Head) Frames() (video, audio int64) { return h.frames, h.sounds }

// Add counts a tag that was appended to the file: its type, its time in ms as it was written, the size of its body, and
// whether it is a key frame. It never allocates.
func (h *Head) Add(typ byte, dts int64, size int, key bool) {
	total := int64(size + TagOverhead)
	at := h.size
	h.size += total
	switch typ {
	case TagVideo:
		if h.frames == 0 {
			h.firstVideo = dts
		} else if d := dts - h.lastVideo; d > 0 && d <= deltaMax {
			h.deltas[d]++
		}
		h.frames++
		h.videoBytes += total - TagTrailerSize
		h.lastVideo, h.lastIsKey = dts, key
		if key {
			h.lastKey, h.lastKeyAt = dts, at
			h.enter(dts, at)
		}
	case TagAudio:
		if h.sounds == 0 {
			h.firstAudio = dts
		}
		h.sounds++
		h.audioBytes += total - TagTrailerSize
		h.lastAudio = dts
	default:
		return
	}
	h.last = max(h.last, dts)
}

// enter puts a key frame into the index. Entry 0 is the sequence header and entry 1 the first key frame: both stay.
func (h *Head) enter(dts, at int64) {
	if n := len(h.times); n > 1 && dts < h.times[n-1]+h.interval {
		return
	}
	if len(h.times) == h.capacity {
		n := 1
		for i := 1; i < len(h.times); i += 2 {
			h.times[n], h.offsets[n] = h.times[i], h.offsets[i]
			n++
		}
		h.times, h.offsets = h.times[:n], h.offsets[:n]
		h.interval *= 2
		if dts < h.times[n-1]+h.interval {
			return
		}
	}
	h.times, h.offsets = append(h.times, dts), append(h.offsets, at)
}

// videoStep is how long a video frame lasts, in ms: as measured, else as the SPS says, else 0.
func (h *Head) videoStep() float64 {
	var n, sum, seen uint64
	for _, c := range h.deltas {
		n += uint64(c)
	}
	median := 0
	for d, c := range h.deltas {
		if seen += uint64(c); n > 0 && seen > (n-1)/2 {
			median = d
			break
		}
	}
	if n == 0 {
		return float64(h.video.FrameDuration()) / float64(time.Millisecond)
	}
	// The median alone is off by up to half a millisecond: average what lies around it.
	n = 0
	for d := median / 2; d <= min(median*3/2, deltaMax); d++ {
		n += uint64(h.deltas[d])
		sum += uint64(h.deltas[d]) * uint64(d)
	}
	return float64(sum) / float64(n)
}

// VideoStep is how long a video frame of this part lasts: as measured, else as the SPS says, else 0.
func (h *Head) VideoStep() time.Duration {
	return time.Duration(h.videoStep() * float64(time.Millisecond))
}

func (h *Head) videoEnd() float64 {
	if h.frames == 0 {
		return 0
	}
	return float64(h.lastVideo) + h.videoStep()
}

func (h *Head) audioEnd() float64 {
	if h.sounds == 0 {
		return 0
	}
	return float64(h.lastAudio) + float64(h.audio.FrameDuration())/float64(time.Millisecond)
}

// Duration is from the first frame to the end of the last one, of the video; of the audio where there is no video.
func (h *Head) Duration() time.Duration {
	d := 0.0
	switch {
	case h.frames > 0:
		d = h.videoEnd() - float64(h.firstVideo)
	case h.sounds > 0:
		d = h.audioEnd() - float64(h.firstAudio)
	}
	return time.Duration(math.Round(d)) * time.Millisecond
}

// Patch gives the head as it should be now: Len bytes for the begin of the file. They are valid until the next call.
func (h *Head) Patch() []byte {
	b := AppendFileHeader(h.buf[:0], h.hasAudio, h.hasVideo)
	b = AppendTagHeader(b, TagScript, 0, h.scriptSize)
	b = h.appendScript(b)
	b = AppendTagTrailer(b, h.scriptSize)
	if h.hasVideo {
		b = AppendTag(b, TagVideo, 0, h.cfg.Video)
	}
	if h.hasAudio {
		b = AppendTag(b, TagAudio, 0, h.cfg.Audio)
	}
	if int64(len(b)) != h.headLen {
		panic(fmt.Sprintf("flv: the head of a part is %d bytes instead of %d", len(b), h.headLen))
	}
	h.buf = b
	return b
}

// appendScript appends the body of the script tag. The order matters: players stop at what they do not know, so all
// that they look for comes first, the index next, and behind it what only fills the room.
func (h *Head) appendScript(b []byte) []byte {
	begin := len(b)
	b = appendString(b, onMetaData)
	b = append(b, byte(ECMAArray))
	count := len(b)
	b = append(b, 0, 0, 0, 0)
	n := uint32(0)
	num := func(name string, v float64) {
		b = appendNumber(appendName(b, name), v)
		n++
	}
	flag := func(name string, v bool) {
		b = appendBool(appendName(b, name), v)
		n++
	}
	seconds := max(h.videoEnd(), h.audioEnd()) / 1000
	rate := func(bytes int64) float64 {
		if seconds <= 0 {
			return 0
		}
		return math.Round(float64(bytes) * 8 / 1000 / seconds)
	}
	num("duration", seconds)
	if h.hasVideo {
		num("width", float64(h.video.Width))
		num("height", float64(h.video.Height))
		fps := 0.0
		if step := h.videoStep(); step > 0 {
			fps = math.Round(1000/step*1000) / 1000
		}
		num("framerate", fps)
		num("videocodecid", float64(tag.CodecIDAVC))
		num("videodatarate", rate(h.videoBytes))
	}
	if h.hasAudio {
		num("audiocodecid", float64(tag.SoundFormatAAC))
		num("audiodatarate", rate(h.audioBytes))
		num("audiosamplerate", float64(h.audio.SampleRate))
		num("audiosamplesize", 16)
		flag("stereo", h.audio.Channels > 1)
	}
	num("filesize", float64(h.size))
	num("datasize", float64(h.videoBytes+h.audioBytes))
	num("videosize", float64(h.videoBytes))
	num("audiosize", float64(h.audioBytes))
	num("lasttimestamp", float64(h.last)/1000)
	num("lastkeyframetimestamp", float64(h.lastKey)/1000)
	num("lastkeyframelocation", float64(h.lastKeyAt))
	flag("hasAudio", h.hasAudio)
	flag("hasVideo", h.hasVideo)
	flag("hasMetadata", true)
	flag("hasKeyframes", h.hasVideo)
	flag("canSeekToEnd", h.lastIsKey)
	b = appendString(appendName(b, "metadatacreator"), creator)
	b = append(appendName(b, keyKeyframes), byte(Object))
	array := func(name string, n int) {
		b = appendName(b, name)
		b = binary.BigEndian.AppendUint32(append(b, byte(StrictArray)), uint32(n))
	}
	array("times", len(h.times))
	for _, t := range h.times {
		b = appendNumber(b, float64(t)/1000)
	}
	array("filepositions", len(h.offsets))
	for _, o := range h.offsets {
		b = appendNumber(b, float64(o))
	}
	spare := max(h.capacity-len(h.times), 0) * 2
	array("spacer", spare)
	for range spare {
		b = appendNumber(b, 0)
	}
	b = append(b, 0, 0, amfEnd)
	b = append(b, h.extras...)
	n += 2 + uint32(h.nExtras)
	b = appendName(b, keyPadding)
	// Nulls are one byte each, and no player has a limit for them as it has for strings.
	pad := max(h.scriptSize-(len(b)-begin)-5-3, 0)
	b = binary.BigEndian.AppendUint32(append(b, byte(StrictArray)), uint32(pad))
	for range pad {
		b = append(b, byte(Null))
	}
	n++
	binary.BigEndian.PutUint32(b[count:], n)
	return append(b, 0, 0, amfEnd)
}
