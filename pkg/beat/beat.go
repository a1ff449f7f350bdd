// Package beat says when the round moments of the clock are: the multiples of an interval, counted from midnight UTC.
//
// Whatever looks at the clock now and then does so on the beat, so that one wake-up of the process serves all of it: at
// real pace wake-ups are what costs CPU. It owns no timer and starts nothing.
package beat

import "time"

// Until is how long it is until the next round moment after now, for an interval that divides a day: more than 0, at
// most every. A clock that is set makes one interval shorter, none longer.
func Until(now time.Time, every time.Duration) time.Duration {
	return every - time.Duration(now.UnixNano()%int64(every))
}
