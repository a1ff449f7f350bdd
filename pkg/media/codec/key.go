package codec

import "github.com/liverec/liverec/pkg/media"

// Key reports whether a decoder can start at this frame. nalLength is Info.NALLength (4 for what a Sets gave out).
// open says that it is not the clean kind: pictures that are shown before it may need what was before (HEVC CRA and
// BLA_W_LP, an H.264 picture with a recovery point instead of an IDR). VP8, VP9 and AV1 are told from their own
// headers. Sound is always a key.
func Key(c media.Codec, nalLength int, data []byte) (key, open bool) {
	switch c {
	case media.AVC, media.HEVC:
		k := keyFinder{codec: c}
		for at := 0; at < len(data); {
			from, to, ok := nextNAL(data, at, nalLength)
			if !ok {
				break
			}
			if to > from {
				k.add(data[from:to])
			}
			at = to
		}
		return k.result()
	case media.AV1:
		return av1Key(data), false
	case media.VP9:
		return vp9Key(data), false
	case media.VP8:
		return len(data) > 0 && data[0]&1 == 0, false
	case media.AAC, media.MP3, media.Opus, media.AC3, media.EAC3, media.FLAC, media.PCMA, media.PCMU:
		return true, false
	}
	return false, false
}

// keyFinder is told the NAL units of an access unit in their order.
type keyFinder struct {
	codec media.Codec

	idr, open bool
	slices    int
	predicted bool // a slice is neither I nor SI
	recovery  bool // a recovery point was announced
	refresh   bool // … that takes several pictures, so that none of them need be intra
	sps, pps  bool
}

func (k *keyFinder) add(nal []byte) {
	if k.codec == media.HEVC {
		if len(nal) < 2 || hevcLayer(nal) != 0 {
			return
		}
		if t := nal[0] >> 1 & 0x3F; t >= hevcIRAP && t <= hevcCRA {
			k.idr = true
			k.open = k.open || t == hevcIRAP || t == hevcCRA
		}
		return
	}
	switch nal[0] & 0x1F {
	case avcIDR:
		k.idr = true
	case avcSlice, avcPartition:
		k.slices++
		k.predicted = k.predicted || !avcIntra(nal)
	case avcSEI:
		if n, ok := avcRecovery(nal); ok {
			k.recovery, k.refresh = true, n > 0
		}
	case avcSPS:
		k.sps = true
	case avcPPS:
		k.pps = true
	}
}

func (k *keyFinder) result() (key, open bool) {
	if k.idr {
		return true, k.open
	}
	if k.codec != media.AVC || k.slices == 0 {
		return false, false
	}
	if k.predicted {
		return k.recovery && k.refresh, k.recovery && k.refresh
	}
	// Broadcast encoders that never send an IDR name a recovery point, or at least repeat the parameter sets.
	key = k.recovery || k.sps && k.pps
	return key, key
}
