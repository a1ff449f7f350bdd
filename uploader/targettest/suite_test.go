package targettest_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/liverec/liverec/pkg/failure"
	"github.com/liverec/liverec/uploader"
	"github.com/liverec/liverec/uploader/targettest"
	"github.com/liverec/liverec/uploader/wrap"
)

// env is a Remote as an environment of the suite.
func env(l uploader.Limits, mute bool, around func(uploader.Target) uploader.Target) func(*testing.T) targettest.Env {
	return func(t *testing.T) targettest.Env {
		r := targettest.NewRemote(l)
		if mute {
			r.Mute()
		}
		return targettest.Env{
			New: func(*testing.T) uploader.Target { return around(r.Target("memory:")) },
			Read: func(_ *testing.T, key string) ([]byte, error) {
				data, ok := r.Object(key)
				if !ok {
					return nil, fs.ErrNotExist
				}
				return data, nil
			},
			Pending: func(*testing.T) int { return r.Pending() },
			Damage:  func(_ *testing.T, key string) { r.Damage(key) },
			Lose:    func(_ *testing.T, key string) { r.Lose(key) },
			Unreachable: func(*testing.T) uploader.Target {
				return wrap.Fault(r.Target("memory:"), func(wrap.Call) wrap.Fate {
					return wrap.Fate{Err: &failure.Error{Kind: failure.Transient, Err: errors.New("connection refused")}}
				})
			},
			Many: 3000,
		}
	}
}

var chunked = uploader.Limits{MinChunk: 64, MaxChunk: 1 << 20, MaxChunks: 10_000, Parallel: 4, Growing: true}

func bare(t uploader.Target) uploader.Target { return t }

func TestRemote(t *testing.T) {
	t.Run("lists", func(t *testing.T) { targettest.Run(t, env(chunked, false, bare)) })
	t.Run("cannot list", func(t *testing.T) { targettest.Run(t, env(chunked, true, bare)) })
	t.Run("takes whole segments", func(t *testing.T) {
		targettest.Run(t, env(uploader.Limits{Parallel: 2}, false, bare))
	})
	t.Run("in the usual wrappers", func(t *testing.T) {
		targettest.Run(t, env(chunked, false, func(t uploader.Target) uploader.Target {
			return wrap.Stack(t, nil, 0, nil)
		}))
	})
}
