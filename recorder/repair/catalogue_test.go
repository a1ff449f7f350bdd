package repair_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// catalogue says which tests hold each kind of fault that a live FLV stream can have: T transport, F framing, C headers
// and codecs, S time, D content; and V the vectors that are made of several of them. "flv." is pkg/media/flv; what has
// no prefix is here. Rows that another package answers for are not listed: T1, T2, T3, T5, T8, T11 and T12 are of
// connections, T6, T10, S13 and S15 of whoever watches over them, and so are the vectors of a kill and a slow disk.
var catalogue = map[string]string{
	"T4 not FLV":                       "flv.TestDemuxContent flv.TestSniff",
	"T7 early close":                   "TestCutAtEveryByte TestCutAtEveryTag flv.TestDemuxTail flv.TestDemuxReaderErrors",
	"T9 repeats for ever":              "TestLoopIsDroppedAndReported TestLoopWithAClockThatGoesOn TestNoLoop",
	"F1 no file header":                "flv.TestDemuxFraming flv.TestReadAll",
	"F2 wrong flags":                   "flv.TestDemuxFraming",
	"F3 DataOffset":                    "flv.TestDemuxFraming",
	"F4 PreviousTagSize":               "flv.TestDemuxFraming",
	"F5 garbage":                       "flv.TestDemuxFraming flv.TestDemuxLostSync flv.TestDemuxLosesOnlyWhatIsDamaged flv.TestReadAll",
	"F6 second file header":            "flv.TestDemuxRestart TestReplayInAConnection TestGluedPushes",
	"F7 filter bit":                    "flv.TestDemuxFraming flv.TestDemuxEncrypted",
	"F8 empty and short bodies":        "flv.TestDemuxFraming flv.TestDemuxKinds TestSilence",
	"F9 huge DataSize":                 "flv.TestDemuxFraming flv.TestDemuxFalseClaimCostsLittle flv.TestDemuxLargeTagTravelsAlone",
	"F10 truncated tail":               "flv.TestDemuxTail flv.TestDemuxSplitAtEveryByte",
	"F11 unknown types":                "flv.TestDemuxFraming",
	"C1 later script":                  "TestReplayInAConnection TestFilmShownAgainIsKept",
	"C2 repeated headers":              "TestHeaders",
	"C3 changed header":                "TestHeaders TestCodecChanges",
	"C4 several headers":               "TestHeaders",
	"C5 late header":                   "TestHeaders TestCodecChanges",
	"C6 header missing":                "TestHeaderMissingAfterAReconnect TestSingleTracks",
	"C7 flapping":                      "TestFlappingHeaders TestFlappingOfOtherCodecs",
	"C8 start codes":                   "TestStartCodes flv.TestDemuxAnnexB flv.TestStartCodes",
	"C9 sets in key frames":            "TestEveryCodec",
	"C10 no script, one track":         "TestSingleTracks TestStartDoesNotWaitWithoutNeed TestEveryCodec",
	"C11 codec changes":                "TestCodecChanges",
	"C12 size changes in band":         "TestSizeChangesInBand",
	"C13 end mark":                     "TestReplayInAConnection",
	"C14 no key frame first":           "TestPreRoll",
	"C15 false key frames":             "TestFalseKeys TestEveryCodec flv.TestDemuxEvents",
	"C16 filler":                       "TestFiller",
	"C17 sound missing or late":        "TestCodecChanges TestHeaders TestSingleTracks",
	"C18 unusable headers":             "TestBrokenHeaders TestHeaders flv.TestBadVideoConfig",
	"S1 any first time":                "TestPlainStreamComesThrough TestClocksThatWrap",
	"S2 jump ahead":                    "TestJumpsOfTheClock TestFramesMissingInAConnection TestSilenceAndANewClockInAConnection",
	"S3 jump back":                     "TestJumpsOfTheClock",
	"S4 small overlaps":                "TestSmallOverlapsDoNotDrift",
	"S5 24 bits":                       "TestClocksThatWrap",
	"S6 31 and 32 bits":                "TestClocksThatWrap",
	"S7 negative":                      "TestClocksThatWrap flv.TestDemuxTimestamps",
	"S8 two clocks":                    "TestTracksOnDifferentClocks",
	"S9 clock stands still":            "TestTimeStampsThatStandStill",
	"S10 time of headers":              "TestTimeOfHeaders",
	"S11 interleaving":                 "TestInterleaving",
	"S12 not increasing":               "TestTimeStampsThatGoBack",
	"S14 absurd CTS":                   "TestAbsurdCompositionTime TestAbsurdCompositionTimeIsTakenOut flv.TestClassify",
	"D1 groups again":                  "TestReplayInAConnection TestLoopIsDroppedAndReported",
	"D2 overlap at a reconnect":        "TestCutAtEveryTag TestRestartGoesOn TestNoFrameIsLostOrDoubled TestEveryCodec",
	"D4 pushes glued":                  "TestGluedPushes",
	"V still picture and silence":      "TestStillPictureAcrossAnOverlap",
	"V hole at a reconnect":            "TestHoleAtAReconnect TestShortHolesAtAReconnect",
	"V every wrapping, several tracks": "TestEveryCodec TestOneTrackOfSeveral flv.TestDemuxHugeModEx",
	"V colours":                        "TestColours",
	"V unsupported":                    "TestUnsupportedCodec flv.TestCodecName",
	"V no allocation":                  "TestNoAllocationPerPacketOfAnyCodec flv.TestNoAllocationPerTagOfAnyCodec",
	"V what came out goes in again":    "TestIdempotence TestEveryCodec TestHeaders TestJumpsOfTheClock",
	"V sums of samples, notes of old":  "TestSumsOfSamples TestStateOfOld",
}

func TestCatalogueNamesTests(t *testing.T) {
	have := map[string]bool{}
	for prefix, dir := range map[string]string{"": ".", "flv.": "../../pkg/media/flv"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, f := range files {
			tree, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range tree.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					have[prefix+fn.Name.Name] = true
				}
			}
		}
	}
	for row, names := range catalogue {
		for _, n := range strings.Fields(names) {
			if !have[n] {
				t.Errorf("%s: there is no %s", row, n)
			}
		}
	}
}
