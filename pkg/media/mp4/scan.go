package mp4

import (
	"errors"
	"io"
	"time"
)

// ErrForeign says that a file was not made by a Writer, or that its head is torn and nobody knows what it was.
var ErrForeign = errors.New("not a hybrid MP4 of liverec")

// ScanConfig is what a Scan is told. All of it may be left out.
type ScanConfig struct {
	// Head is what Writer.Head gave when the file was made, for the case that the one in the file is torn.
	Head []byte
	// Config is the next best thing: with it alone a torn head can be made again, but how much later one track began than
	// the other is lost.
	Config *Config
	// Sample is called for the samples at the end of the file, in their order: for those of the last Last of media time,
	// and for all in fragments that begin at From or behind it where From > 0. An error ends the scan.
	Sample func(ScannedSample) error
	Last   time.Duration
	From   int64
	// Known spares reading the samples in front of it for their digests. It is not believed if it does not fit the file.
	Known Mark
}

// Mark is what a Writer said of the file after some Flush.
type Mark struct {
	Written int64 // Writer.Written
	Frames  int64 // both numbers of Writer.Frames together
	Content uint64
}

// ScannedSample is one sample of a file.
type ScannedSample struct {
	Video, Key bool
	Time       time.Duration // DTS from the begin of the part, as it was given to Add but in whole ticks
	Shift      time.Duration
	Offset     int64
	Size       int
	Sum        uint64 // XXH64 of the type byte (9 video, 8 sound) and the data
}

// ScannedTrack is what a Scan found of one track.
type ScannedTrack struct {
	Frames      int64
	First, Last time.Duration // DTS from the begin of the part; 0 without frames
}

// Scanned is what a Scan found.
type Scanned struct {
	End    int64 // of the last whole fragment: the length that the file should have
	Closed bool  // the file has its index. It goes away with what is behind End
	// Rewrite says that Writer.Head must be written over the begin of the file: it was closed, or its head is torn.
	Rewrite      bool
	Video, Audio ScannedTrack
	Config       Config
	Writer       *Writer // stands at End, ready for Add
}

// Scan walks a file of a Writer that may be torn anywhere, also in the middle of being closed. It reads the headers of
// fragments, and samples where their digests are asked for. Nothing is written. To go on: truncate to End, write
// Writer.Head at 0 where Rewrite says so, Add.
//
// Errors: ErrForeign, those of the reader, that of ScanConfig.Sample.
func Scan(r io.ReaderAt, size int64, cfg ScanConfig) (*Scanned, error) { return nil, ErrForeign }
