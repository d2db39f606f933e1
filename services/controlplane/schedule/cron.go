// Package schedule starts runs of tasks when their time has come: once, or by
// cron in a time zone. Any number of servers share the schedules of a store.
package schedule

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // containers have none

	"github.com/robfig/cron/v3"

	"skep/services/controlplane"
)

// Times is when a schedule is due.
type Times struct {
	fields *cron.SpecSchedule
	zone   *time.Location
}

// everyHour is what the parser sets for an hour of *.
const everyHour = 1 << 63

// Parse takes five fields as crontab(5) has them, and a zone of the IANA
// database; UTC if it is empty.
func Parse(expression, zone string) (Times, error) {
	if zone == "Local" {
		return Times{}, fmt.Errorf("%w: zone %q: name one, as in Europe/Berlin", controlplane.ErrInvalid, zone)
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return Times{}, fmt.Errorf("%w: zone %q: the time zone database has no such zone", controlplane.ErrInvalid, zone)
	}
	if strings.Contains(expression, "=") { // the parser's own way to name a zone
		return Times{}, fmt.Errorf("%w: cron expression %q: five fields, and the zone apart", controlplane.ErrInvalid, expression)
	}
	five := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	parsed, err := five.Parse(expression)
	if err != nil {
		return Times{}, fmt.Errorf("%w: cron expression %q: %w", controlplane.ErrInvalid, expression, err)
	}
	fields, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return Times{}, fmt.Errorf("%w: cron expression %q: five fields", controlplane.ErrInvalid, expression)
	}
	t := Times{fields: fields, zone: location}
	if t.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Times{}, fmt.Errorf("%w: cron expression %q: that day never comes", controlplane.ErrInvalid, expression)
	}
	return t, nil
}

// Next is the first time after another; zero if there is none within five
// years.
//
// Where clocks change, what is due every hour goes by the time that passes.
// Anything else goes by the clock on the wall, once: a time that the clock
// jumps over is due at the jump, and of one that it shows twice the first.
func (t Times) Next(after time.Time) time.Time {
	fields := *t.fields
	if fields.Hour&everyHour != 0 {
		fields.Location = t.zone
		return fields.Next(after).In(t.zone)
	}
	fields.Location = time.UTC
	local := after.In(t.zone)
	// In UTC no clock changes. A jump that has just been may owe a time of before
	// it.
	wall := onClock(local)
	if start, _ := local.ZoneBounds(); !start.IsZero() {
		wall = wall.Add(-max(0, jump(start)))
	}
	for {
		wall = fields.Next(wall)
		if wall.IsZero() {
			return time.Time{}
		}
		if due := onWall(wall, t.zone); due.After(after) {
			return due
		}
	}
}

// onClock is what the wall shows, as if it was UTC.
func onClock(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// jump is how far the clock of a zone goes forward at a change.
func jump(change time.Time) time.Duration {
	_, before := change.Add(-time.Nanosecond).Zone()
	_, now := change.Zone()
	return time.Duration(now-before) * time.Second
}

// onWall is when a zone's clock shows a time first, or jumps over it.
func onWall(wall time.Time, zone *time.Location) time.Time {
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	start, end := t.ZoneBounds()
	// A time that is not there: t lies on one side of the jump.
	switch shown := onClock(t); {
	case shown.After(wall):
		return start
	case shown.Before(wall):
		return end
	}
	if start.IsZero() {
		return t
	}
	if back := -jump(start); back > 0 && t.Add(-back).Before(start) {
		return t.Add(-back) // the same time before the clock went back
	}
	return t
}
