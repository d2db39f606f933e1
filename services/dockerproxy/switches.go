package dockerproxy

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Variable is an environment variable that the proxy reads.
type Variable struct {
	Name    string
	Default string
	Group   Group
	Doc     string // one sentence, Markdown
}

// Group says what sort of thing a variable sets.
type Group string

// Sections, writes and listener are docker-socket-proxy's; the others are not.
const (
	Sections Group = "Sections of the API"
	Parts    Group = "Parts that give away what is inside"
	Writes   Group = "Writes"
	Values   Group = "Values in answers"
	View     Group = "Whose objects"
	Listener Group = "Listening and logging"
)

// Variables are all of them, in the order of the manual.
var Variables = []Variable{
	{"AUTH", "0", Sections, "`/auth`: try registry credentials"},
	{"BUILD", "0", Sections, "`/build`: build images, prune the cache"},
	{"COMMIT", "0", Sections, "`/commit`: make an image of a container"},
	{"CONFIGS", "0", Sections, "`/configs`, without their data"},
	{"CONTAINERS", "0", Sections, "`/containers`: list, inspect, top, stats, changes"},
	{"DISTRIBUTION", "0", Sections, "`/distribution`: what a registry says of an image"},
	{"EVENTS", "1", Sections, "`/events`"},
	{"EXEC", "0", Sections, "`/exec`, and with `CONTAINERS` and `POST` starting a process in a container"},
	{"GRPC", "0", Sections, "`/grpc` of BuildKit"},
	{"IMAGES", "0", Sections, "`/images`, without their files"},
	{"INFO", "0", Sections, "`/info`"},
	{"NETWORKS", "0", Sections, "`/networks`"},
	{"NODES", "0", Sections, "`/nodes`"},
	{"PING", "1", Sections, "`/_ping`"},
	{"PLUGINS", "0", Sections, "`/plugins`"},
	{"SECRETS", "0", Sections, "`/secrets`: names and labels; Docker tells no values"},
	{"SERVICES", "0", Sections, "`/services`"},
	{"SESSION", "0", Sections, "`/session` of BuildKit"},
	{"SWARM", "0", Sections, "`/swarm`, without join tokens and unlock key"},
	{"SYSTEM", "0", Sections, "`/system/df`"},
	{"TASKS", "0", Sections, "`/tasks`"},
	{"VERSION", "1", Sections, "`/version`"},
	{"VOLUMES", "0", Sections, "`/volumes`"},

	{"ARCHIVE", "0", Parts, "Files of a container (`/containers/{id}/archive`, `copy`); also needs `CONTAINERS`"},
	{"ATTACH", "0", Parts, "Input and output of a container (`/containers/{id}/attach`, `attach/ws`); also needs `CONTAINERS`"},
	{"EXPORT", "0", Parts, "All files of a container or an image (`/containers/{id}/export`, `/images/{name}/get`); also needs `CONTAINERS` or `IMAGES`"},
	{"LOGS", "0", Parts, "Logs of what `CONTAINERS`, `SERVICES` and `TASKS` open"},

	{"POST", "0", Writes, "Methods beyond `GET` and `HEAD` in every open section"},
	{"ALLOW_RESTARTS", "0", Writes, "With `POST`: stop, restart and kill a container, without `CONTAINERS`"},
	{"ALLOW_START", "0", Writes, "With `POST`: start a container, without `CONTAINERS`"},
	{"ALLOW_STOP", "0", Writes, "With `POST`: stop a container, without `CONTAINERS`"},
	{"ALLOW", "", Writes, "Single endpoints, whatever else is closed: `POST /services/{id}/update, GET /nodes`, by comma or line. A name in the place of `{id}` opens that object alone"},

	{"CONFIG_DATA", "0", Values, "Shows the data of configs"},
	{"ENV_VALUES", "0", Values, "Shows the values of environment variables"},
	{"JOIN_TOKENS", "0", Values, "Shows the Swarm's join tokens and unlock key"},
	{"LABEL_VALUES", "0", Values, "Shows the values of labels and driver options that look like secrets"},

	{"SELECTOR", "", View, "Labels, `com.docker.stack.namespace=media`, all of which an object must have to be seen; several by comma"},
	{"LEARN", "0", View, "Lets everything through and logs the switches that the traffic needs. Not for production"},

	{"SOCKET_PATH", "/var/run/docker.sock", Listener, "Docker's socket"},
	{"LISTEN", ":2375", Listener, "Address to listen on"},
	{"DISABLE_IPV6", "0", Listener, "Listens on IPv4 alone"},
	{"METRICS_LISTEN", "", Listener, "Address of `/metrics` and `/healthz`; none by default"},
	{"LOG_LEVEL", "info", Listener, "`debug`, `info`, `notice`, `warning`, `err`, `crit`, `alert` or `emerg`. Refusals are warnings"},
}

// Settings are what the environment says.
type Settings struct {
	Policy        Policy
	Show          Show
	Selector      Selector
	Learn         bool
	Socket        string
	Network       string // "tcp" or "tcp4"
	Listen        string
	MetricsListen string
	LogLevel      slog.Level
}

// FromEnv reads the settings, and reports all that is wrong at once.
func FromEnv(lookup func(string) (string, bool)) (Settings, error) {
	e := environment{lookup: lookup}
	s := Settings{
		Policy:        e.policy(),
		Show:          Show{ConfigData: e.on("CONFIG_DATA"), EnvValues: e.on("ENV_VALUES"), JoinTokens: e.on("JOIN_TOKENS"), LabelValues: e.on("LABEL_VALUES")},
		Learn:         e.on("LEARN"),
		Socket:        e.text("SOCKET_PATH"),
		Network:       "tcp",
		Listen:        e.text("LISTEN"),
		MetricsListen: e.text("METRICS_LISTEN"),
		LogLevel:      e.level("LOG_LEVEL"),
	}
	if e.on("DISABLE_IPV6") {
		s.Network = "tcp4"
	}
	var err error
	if s.Selector, err = ParseSelector(e.text("SELECTOR")); err != nil {
		e.fail("SELECTOR", err)
	}
	if err := errors.Join(e.problems...); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// environment collects what is wrong with the variables.
type environment struct {
	lookup   func(string) (string, bool)
	problems []error
}

func (e *environment) fail(name string, err error) {
	e.problems = append(e.problems, fmt.Errorf("%s: %w", name, err))
}

// text is the value of a variable; an empty one counts as unset.
func (e *environment) text(name string) string {
	if value, _ := e.lookup(name); value != "" {
		return value
	}
	return byDefault(name)
}

func byDefault(name string) string {
	i := slices.IndexFunc(Variables, func(v Variable) bool { return v.Name == name })
	return Variables[i].Default
}

// on takes 1 and 0 as docker-socket-proxy does, which reads every other word
// as 0: it is an error here, for somebody meant something by it.
func (e *environment) on(name string) bool {
	switch value := e.text(name); {
	case value == "1":
		return true
	case value == "0":
	case name == "DISABLE_IPV6" && slices.Contains([]string{"true", "yes"}, strings.ToLower(value)):
		return true
	case name == "DISABLE_IPV6" && slices.Contains([]string{"false", "no"}, strings.ToLower(value)):
	default:
		e.fail(name, fmt.Errorf("%q: say 1 or 0", value))
	}
	return false
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "notice": slog.LevelInfo, "warning": slog.LevelWarn,
	"err": slog.LevelError, "crit": slog.LevelError, "alert": slog.LevelError, "emerg": slog.LevelError,
}

func (e *environment) level(name string) slog.Level {
	level, ok := levels[e.text(name)]
	if !ok {
		e.fail(name, fmt.Errorf("%q is no level: say debug, info, notice, warning, err, crit, alert or emerg", e.text(name)))
	}
	return level
}
