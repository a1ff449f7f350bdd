#!/bin/sh
# Makes the two clips that package liveroom carries. They are committed, so nobody needs ffmpeg to build or to test;
# run this only to change them. Needs ffmpeg with libx264.
#
# Both are 8 s at 30 fps with a key frame every 2 s and closed GOPs: 240 pictures, and at 48 kHz exactly 375 AAC
# frames, so that a loop has no seam in either track. The second one has another picture size and B frames.
set -eu
cd "$(dirname "$0")"

make_clip() { # name size bit-rate b-frames profile tone
	ffmpeg -v error -y \
		-f lavfi -i "testsrc2=size=$2:rate=30:duration=8" \
		-f lavfi -i "sine=frequency=$6:beep_factor=4:sample_rate=48000:duration=9" \
		-map 0:v -map 1:a -map_metadata -1 \
		-c:v libx264 -preset slow -profile:v "$5" -pix_fmt yuv420p -b:v "$3" -maxrate "$3" -bufsize "$3" \
		-g 60 -keyint_min 60 -sc_threshold 0 -bf "$4" -x264-params "open-gop=0:scenecut=0:threads=1" -flags:v +bitexact \
		-c:a aac -b:a 64k -ac 2 -flags:a +bitexact \
		-frames:a 375 -fflags +bitexact -flvflags no_duration_filesize \
		-f flv "$1"
}

make_clip clip.flv 640x360 320k 0 high 440
make_clip clip2.flv 480x270 120k 2 main 660
ls -l clip.flv clip2.flv
