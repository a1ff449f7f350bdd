package repair_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/liverec/liverec/pkg/media"
	"github.com/liverec/liverec/pkg/media/flv"
	"github.com/liverec/liverec/recorder/repair"
)

// FuzzRepairer feeds any packets in any order and checks what must hold whatever comes: the sink's checks, the balance
// after Disconnect, bounded holding, no panic.
func FuzzRepairer(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 2, 0, 2, 0, 3, 0, 8, 9, 2, 0})
	f.Add([]byte{0, 0, 2, 0, 2, 1, 7, 0, 2, 0, 2, 3, 9, 0, 0, 0, 2, 0, 10, 0, 2, 5})
	f.Add([]byte{0, 0, 2, 0, 3, 0, 3, 9, 6, 0, 2, 0, 5, 0, 2, 0, 11, 0, 0, 0, 2, 4, 1, 0})
	f.Add([]byte{0, 0, 2, 0, 2, 1, 1, 0, 12, 0, 13, 1, 3, 0, 2, 0})
	f.Add([]byte("80,01000I0C0")) // an end mark while a seam is open
	f.Fuzz(func(t *testing.T, ops []byte) {
		r := rand.New(rand.NewPCG(1, 1))
		g := newRig(t)
		clock := int64(1000)
		var history []media.Packet
		var state repair.State
		n := byte(0)
		fresh := func(k int) media.Packet {
			n++
			if k == 3 {
				return audio(r, 0, 10+int(n)%30).packet(clock)
			}
			return video(r, 0, k == 0, 20+int(n)*2).packet(clock)
		}
		if len(ops) > 600 {
			ops = ops[:600]
		}
		for i := 0; i+1 < len(ops); i += 2 {
			arg := int64(ops[i+1])
			switch ops[i] % 14 {
			case 0:
				g.connect("cut")
			case 1:
				g.disconnect()
			case 2: // a second of media
				var ps []media.Packet
				for k := range 12 {
					clock += 40
					if k%2 == 0 {
						ps = append(ps, fresh(3))
					}
					ps = append(ps, fresh(min(k, 1)))
				}
				history = append(history, ps...)
				g.now = g.now.Add(time.Duration(arg*10) * time.Millisecond)
				g.push(ps...)
			case 3: // something again
				if len(history) > 0 {
					from := int(arg) % len(history)
					g.push(history[from:min(len(history), from+40)]...)
				}
			case 4:
				clock += arg * 100
			case 5:
				clock -= arg * 100
			case 6:
				clock += (arg - 128) << 24
			case 7:
				g.push(media.Packet{Kind: media.Restart})
			case 8:
				p := media.Packet{Kind: media.Kind(arg % 9), Codec: media.Codec(arg % 10), Body: make([]byte, arg%7), DTS: clock}
				p.Sum = flv.Sum(flv.TagVideo, p.Body)
				if p.Kind == media.Audio {
					p.Sum = flv.Sum(flv.TagAudio, p.Body)
				}
				g.push(p)
			case 9:
				g.push(header(media.VideoConfig, [][]byte{videoA, videoB}[arg%2]), header(media.AudioConfig, [][]byte{audioA, audioB}[arg/2%2]))
			case 10:
				g.now = g.now.Add(time.Duration(arg*100) * time.Millisecond)
				if err := g.r.Tick(g.now); err != nil {
					t.Fatal(err)
				}
			case 11:
				g.push(metadata(), media.Packet{Kind: media.EndMark, Codec: media.AVC, Body: []byte{0x17, 2, 0, 0, 0}})
			case 12:
				state = g.r.State()
				state.Digests = g.r.Digests()
				if _, err := json.Marshal(state); err != nil {
					t.Fatal(err)
				}
			case 13:
				switch {
				case state.Ordinal == 0:
				case arg%2 == 1 && state.Ordinal == g.s.ordinal: // the file is away
					g.r = repair.Restore(repair.Config{}, g.s, state, nil)
					g.r.Connect(g.now, "liverec was not running")
				default:
					g.kill(state)
					g.r.Connect(g.now, "liverec was not running")
				}
			}
			if err := g.r.Account().Check(); err != nil {
				t.Fatal(err)
			}
		}
		g.disconnect()
		for _, err := range g.errs {
			var u *repair.Unsupported
			if !errors.Is(err, repair.ErrLoop) && !errors.Is(err, repair.ErrFlapping) && !errors.As(err, &u) {
				t.Error(err)
			}
		}
		for _, gap := range g.s.gaps {
			if gap.Length <= 0 {
				t.Errorf("%+v", gap)
			}
		}
	})
}

// FuzzBodies sends tag bodies of any content through the Demuxer into a Repairer.
func FuzzBodies(f *testing.F) {
	for _, c := range streams(f) {
		var seed []byte
		for _, tr := range []struct {
			clip
			wrap
		}{{c.v, c.vw}, {c.a, c.aw}} {
			if tr.wrap == nil {
				continue
			}
			for _, x := range tags(tr.clip, tr.wrap)[:3] {
				b := x.body[:min(len(x.body), 120)]
				seed = append(append(seed, x.typ, byte(len(b)), 40), b...)
			}
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var ts []tagged
		at := int64(0)
		for len(in) > 3 && len(ts) < 200 {
			n := min(int(in[1]), len(in)-3)
			at += int64(in[2])
			typ := byte(flv.TagVideo)
			if in[0]&1 == 0 {
				typ = flv.TagAudio
			}
			ts = append(ts, tagged{typ, at, in[3 : 3+n]})
			in = in[3+n:]
		}
		g := newRig(t)
		g.r = repair.New(repair.Config{DropFiller: len(ts)%2 == 0}, g.s)
		for range 3 {
			g.r.Connect(g.now, "cut")
			g.play(packets(t, ts, 0))
			g.disconnect()
			g.kill(g.note())
		}
	})
}
