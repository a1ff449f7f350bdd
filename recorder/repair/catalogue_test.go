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
// and codecs, S time, D content; and V the vectors that are made of several of them. What has no prefix is here; others
// name their package. All rows of the reference are here. D3, losses that a source hides by new time stamps, is looked for
// by nobody (see the package comment) and has no test; S15, a part that is longer than the wall, cannot come out of a
// timeline that closes every hole above a second, and that is what its tests hold.
var catalogue = map[string]string{
	"T1 refused at connect":            "httpflv.TestRequest direct.TestResolveAnswers bilibili.TestHosts bilibili.TestPresence",
	"T2 ranges":                        "httpflv.TestRequest",
	"T3 redirects":                     "httpflv.TestRedirects bilibili.TestRedirectKeepsReferer",
	"T4 not FLV":                       "flv.TestDemuxContent flv.TestSniff direct.TestResolveAnswers",
	"T5 no bytes":                      "httpflv.TestSilence httpflv.TestSilenceIsBroken",
	"T6 no usable media":               "recorder.TestUselessSources",
	"T7 early close":                   "TestCutAtEveryByte TestCutAtEveryTag flv.TestDemuxTail flv.TestDemuxReaderErrors",
	"T8 addresses expire":              "bilibili.TestKeepsTheOriginal bilibili.TestGoesOnWhileBlocked bilibili.TestPresence",
	"T9 repeats for ever":              "TestLoopIsDroppedAndReported TestLoopWithAClockThatGoesOn TestNoLoop",
	"T10 bad nodes":                    "bilibili.TestHosts httpflv.TestSlowHost",
	"T11 framing of HTTP":              "httpflv.TestRequest httpflv.TestEnds",
	"T12 line below the bit rate":      "pace.TestMeter pace.TestSteps httpflv.TestSlowHost bilibili.TestStepsDown",
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
	"S13 media slower than the wall":   "pace.TestMeter httpflv.TestSlowHost",
	"S15 longer than the wall":         "TestJumpsOfTheClock TestSmallOverlapsDoNotDrift",
	"S14 absurd CTS":                   "TestAbsurdCompositionTime TestAbsurdCompositionTimeIsTakenOut flv.TestClassify",
	"D1 groups again":                  "TestReplayInAConnection TestLoopIsDroppedAndReported",
	"D2 overlap at a reconnect":        "TestCutAtEveryTag TestRestartGoesOn TestNoFrameIsLostOrDoubled TestEveryCodec",
	"D4 pushes glued":                  "TestGluedPushes",
	"V kill at any moment":             "recorder.TestI3_PowerCuts recorder.TestK2_EveryLength recorder.TestI3_DeathAtEveryStep",
	"V slow and full disk":             "recorder.TestDiskStandsStill recorder.TestFullDisk pace.TestMeterOwnDisk",
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
	for prefix, dir := range map[string]string{"": ".", "flv.": "../../pkg/media/flv", "recorder.": "..", "httpflv.": "../httpflv", "pace.": "../pace",
		"direct.": "../site/direct", "bilibili.": "../site/bilibili"} {
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
	count := map[byte]int{}
	for row := range catalogue {
		count[row[0]]++
	}
	for kind, rows := range map[byte]int{'T': 12, 'F': 11, 'C': 18, 'S': 15, 'D': 3} { // as many as the reference has, but for D3
		if count[kind] != rows {
			t.Errorf("%d rows of %c, want %d", count[kind], kind, rows)
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
