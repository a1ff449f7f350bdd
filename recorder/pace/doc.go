// Package pace knows whether a stream comes as fast as it plays, and which quality a line and a disk keep up with.
//
// It owns two judgements. A Meter says that a connection has fallen behind: less than 0.9 of real time came for 20 s, and
// what comes is older than it was. Both have to be true: a streamer whose own line drops frames sends less too, but what
// comes is new, and no other host would have more of it. Steps says what follows: first the other hosts of the same
// quality, then, with "auto", the next lower quality, and after a time of calm the next better one again, which waits
// twice as long whenever it failed.
//
// It is pure, the moment is handed in. It opens nothing, closes nothing, and never knows what a site calls its qualities:
// they are numbers here, the greater the better.
package pace
