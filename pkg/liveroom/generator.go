package liveroom

import "time"

// generator makes the tags of one broadcast in the order of their timestamps. It is pure but for the wall clock that
// it writes into the pictures.
type generator struct {
	room    *Room
	clip    *clip
	changes []time.Duration
	video   int64  // pictures made in this broadcast
	audio   int64  // audio frames made in this broadcast
	picture uint64 // number of the next one
	base    int64  // ms
}

// generator starts a broadcast where the last one ended. The mutex of the room is not needed: only the pacing loop
// makes generators of a room that is live.
func (r *Room) generator() *generator {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &generator{room: r, clip: r.clips[0], changes: r.cfg.Changes, picture: r.next, base: r.cfg.Base.Milliseconds()}
}

func (g *generator) videoAt() time.Duration {
	return time.Duration(g.video) * time.Second / framesPerSecond
}

func (g *generator) audioAt() time.Duration {
	return time.Duration(g.audio) * samplesPerFrame * time.Second / sampleRate
}

// at is the media time of the next tag, from the start of the broadcast.
func (g *generator) at() time.Duration { return min(g.videoAt(), g.audioAt()) }

// next makes the next media tag; a mark comes before it where the clip changes.
func (g *generator) next() []tag {
	if a := g.audioAt(); a < g.videoAt() {
		body := g.clip.audio[g.audio%int64(len(g.clip.audio))]
		g.audio++
		return []tag{{typ: tagAudio, ts: g.base + a.Milliseconds(), body: body, clip: g.clip}}
	}
	var out []tag
	v := g.videoAt()
	i := g.video % int64(len(g.clip.video))
	ts := g.base + v.Milliseconds()
	if g.clip.video[i].key && len(g.changes) > 0 && v >= g.changes[0] {
		g.changes = g.changes[1:]
		if g.clip == g.room.clips[0] {
			g.clip = g.room.clips[1]
		} else {
			g.clip = g.room.clips[0]
		}
		out = append(out, tag{ts: ts, clip: g.clip, change: true})
	}
	p := g.clip.video[i]
	body := number(p.body, g.picture, time.Now(), g.room.padding[:padFor(g.clip, g.room.cfg.Bitrate)])
	out = append(out, tag{typ: tagVideo, ts: ts, body: body, frame: g.picture, key: p.key, clip: g.clip})
	g.video++
	g.picture++
	return out
}
