// Package pipeline is the house: it owns the channels between the stages, starts them in order, and stops them as a
// wave along the data. It never touches a byte of media and never talks to a remote.
//
// # Five sentences that decide everything else
//
//  1. The disk is the queue, the ledger is the truth, a channel is a doorbell.
//  2. Record the intention, act, record the result; after a crash ask before repeating.
//  3. Capture waits for nobody but its own disk.
//  4. Nothing is deleted without a proof, and only one package can delete.
//  5. Whoever starts a goroutine waits for it; whoever makes a channel decides when it closes.
//
// # Rooms of the house
//
//	recorder           stage 1, capture: one Recorder per room turns a stream into parts on the disk. httpflv and hlspull
//	                   pull; repair joins what cannot say what is missing, retime what numbers its media; site finds rooms
//	uploader           stage 2, transport: carries chunks of open and closed parts to the targets, and proves them
//	pipeline/control   stage 3: decides what each broadcast needs, sets the published lists, ends broadcasts
//	pipeline/reclaim   stage 4: frees what is proven; the only remover of media
//	pkg/ledger         what is durable about all of it; satisfies the four small Journals that the stages declare
//	cmd/liverec        builds all of it by hand, and is the only one that exits
//
// The stages never import one another. They share words (pkg/segment) and tools, and meet here as interfaces.
//
// # How a byte gets to the archive
//
//	socket ─ batches ─> segment file ─ fsync ─> ledger: durable to n ─ doorbell ─> a worker sends the chunk
//	  ─> ledger: acknowledged ─> … ─> commit ─> asked anew ─> ledger: proven ─ outcome ─> control sets the list
//	  ─> ledger: shown ─ kick ─> reclaim: intention, proofs read again, unlink ─> ledger: reclaimed
//
// Every arrow into the ledger is a commit that the actor waits for, so a crash between any two of them leaves a record
// that says what to ask (K1 to K14; the crash tests of pipelinetest cut the power at each of them, and at pairs).
//
// # Goroutines
//
//	goroutine           count                started and awaited by       ends when
//	main                1                    the runtime                  Pipeline.Run returned, or never
//	ledger writer       1                    ledger.Open, Close           its request channel is closed and drained
//	stage               1 per service        Pipeline.start, .Run         its Run returned; it restarts the service after
//	                                                                      an error or a panic, at growing distances
//	recorder loop       1 per room           supervise.Group of its stage the capture context, or the room is done with
//	floor keeper        1 per room           Pipeline.Run                 the capture of the room has returned
//	source reader       1 per live room      recorder loop                Source.Run returned
//	segment writer      1 per live room      recorder loop                its batch channel is closed
//	clerk, sealer       1 each per room      recorder loop                their mailboxes are closed
//	transport           1                    supervise.Group of its stage progress is closed and all lanes have ended
//	lane planner        1 per target         transport                    soft stop and nothing left to do, or hard context
//	upload worker       Uploads per target   its lane                     its job channel is closed, or hard context
//	control             1                    supervise.Group of its stage outcomes is closed, or hard context
//	publish executor    1 per target         control                      its mailbox is closed and empty, or hard context
//	reclaimer           1                    supervise.Group of its stage its context, after control has ended
//	disk ladder         1                    supervise.Group of its stage its context, with reclaim's
//
// # Channels
//
//	channel   type, capacity                    made by        sent by                  closed by, when
//	batches   *media.Batch, 16 x 256 KiB        recorder loop  source reader            recorder loop, per connection
//	progress  segment.Progress, 64              Pipeline.Run   recorders, non-blocking  Pipeline.Run, all recorders returned
//	outcomes  segment.Outcome, 64               Pipeline.Run   lanes                    Pipeline.Run, transport returned
//	plan      []control.Action, 1, newest wins  executor       control                  control, outcomes closed and decided
//	edits     control.edit, 0                   submissions    Control.Edit, which waits never
//	kick      struct{}, 1                       Pipeline.Run   control, disk ladder     never
//	nudge     struct{}, 1                       Control        executors, anybody       never
//
// Blocking sends point downstream only (capture, transport, control, ledger); anything upstream is a mailbox of size
// one in which the newest wins. So the graph of waits has no cycle. I5: capture never waits for transport, control, a
// network upload or a screen.
//
// # Start and stop
//
// Rooms come and go: Start takes a capture in while the pipeline runs, once per room, and Running.End lets it go as a stop
// would; the others notice nothing, nor do they of a panic in it. Targets come and go as well, by Retarget of transport (a
// lane each) and of control (all executors begin anew from the ledger). The disk ladder takes another list of rooms at any
// time.
//
// Start: the caller has locked the data folder, opened the ledger and ended what a crash left (recorder.Recover).
// Control first, since it knows all sessions; then transport, reclaim, the disk ladder, and captures last.
//
// Stop, each step with its own deadline:
//
//	captures end and seal, 5 s  ─>  progress is closed, transport finishes what is in flight, 20 s  ─>  outcomes is
//	closed, control finishes its lists, 5 s  ─>  reclaim and the ladder end
//
// A second signal ends every context at once and waits two seconds. Whoever has not returned by then is named in the
// Result and left behind; its channel stays open, since it may still send. No step deletes anything. One context for
// all would be shorter and wrong: the last part could not be sealed.
//
// With Config.Once the wave also begins by itself, when every capture has returned and nothing in the ledger can move
// any more without a person.
//
// # Memory
//
// See Budget: the sum of every capacity times its size (I7).
package pipeline
