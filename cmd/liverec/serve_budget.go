package main

import (
	"context"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/liverec/liverec/pkg/segment"
	"github.com/liverec/liverec/recorder/site/direct"
)

// How many questions of rooms that wait a platform gets in a second, and how many at once. A platform of its own (one
// poller asks for all of its rooms) is only asked for the addresses of those that went live; a direct address is the
// server itself; a page may start another program.
var (
	platformBudget = budgetSize{rate: 5, burst: 20}
	directBudget   = budgetSize{rate: 40, burst: 40}
	pageBudget     = budgetSize{rate: 10, burst: 10}
)

type budgetSize struct {
	rate  rate.Limit
	burst int
}

// budget is what the rooms of one platform, or of one host, may ask. It spreads the questions of rooms that begin
// together; who has to wait does so in the order of asking.
type budget struct {
	name string
	lim  *rate.Limiter
}

// take waits for a turn. It is false if none comes before ctx ends.
func (b *budget) take(ctx context.Context) bool { return b.lim.Wait(ctx) == nil }

// budgets are those of all platforms.
type budgets struct {
	mu sync.Mutex
	m  map[string]*budget
}

func newBudgets() *budgets { return &budgets{m: map[string]*budget{}} }

// of finds the budget of a room.
func (b *budgets) of(raw string, room segment.Room) *budget {
	name, size := room.Site, platformBudget
	if room.Site == direct.Name {
		size = directBudget
		if mayBePage(raw) {
			size = pageBudget
		}
		if u, err := url.Parse(strings.TrimSpace(raw)); err == nil && u.Host != "" {
			name = u.Hostname()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := name
	if size == pageBudget {
		key += " pages"
	}
	if b.m[key] == nil {
		b.m[key] = &budget{name: name, lim: rate.NewLimiter(size.rate, size.burst)}
	}
	return b.m[key]
}
