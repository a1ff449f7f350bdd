package flv

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/liverec/liverec/pkg/media"
)

func TestDemuxWhole(t *testing.T) {
	fs := append(heads(), frames(1, 300, 50)...)
	b := stream(fs...)
	first := demux(t, bytes.NewReader(b))
	same(t, first.Packets, fs)
	if first.Count.Received != int64(len(b)) || first.Count.Header != 13 || first.Count.Junk+first.Count.Partial != 0 {
		t.Fatalf("count %+v of %d bytes", first.Count, len(b))
	}
	for name, r := range readers(b, 1) {
		if diff := cmp.Diff(first, demux(t, r)); diff != "" {
			t.Fatalf("%s: %s", name, diff)
		}
	}
	if first.Packets[1].Kind != media.VideoConfig || first.Packets[2].Kind != media.AudioConfig || !first.Packets[3].Key {
		t.Fatalf("kinds %v %v, key %v", first.Packets[1].Kind, first.Packets[2].Kind, first.Packets[3].Key)
	}
}
