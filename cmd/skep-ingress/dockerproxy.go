package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"skep/services/ingress/controller"
)

// option is a setting of the docker-proxy command. Its variable wins over its
// flag, as in caddy-docker-proxy, whose names they are where it has them.
type option struct {
	flag, variable, standard, usage string
	set                             func(s *controller.Settings, value string) error
}

var options = []option{
	{"docker-sockets", "CADDY_DOCKER_SOCKETS", "", "Docker API to read; DOCKER_HOST if empty", func(s *controller.Settings, v string) error {
		if strings.Contains(v, ",") {
			return errors.New("more than one Docker API is not supported")
		}
		s.DockerHost = v
		return nil
	}},
	{"ingress-networks", "CADDY_INGRESS_NETWORKS", "", "comma separated names of the networks that the ingress shares with upstreams; those of its own container if empty", func(s *controller.Settings, v string) error {
		s.Networks = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		return nil
	}},
	{"caddyfile-path", "CADDY_DOCKER_CADDYFILE_PATH", "", "base Caddyfile that labels extend", func(s *controller.Settings, v string) error {
		s.CaddyfilePath = v
		return nil
	}},
	{"label-prefix", "CADDY_DOCKER_LABEL_PREFIX", "caddy", "prefix of labels", func(s *controller.Settings, v string) error {
		s.LabelPrefix = v
		return nil
	}},
	{"proxy-service-tasks", "CADDY_DOCKER_PROXY_SERVICE_TASKS", "true", "proxy to a service's tasks instead of its virtual address", func(s *controller.Settings, v string) error {
		tasks, err := strconv.ParseBool(v)
		s.VirtualIPs = !tasks
		return err
	}},
	{"scan-stopped-containers", "CADDY_DOCKER_SCAN_STOPPED_CONTAINERS", "false", "read labels of containers that do not run", func(s *controller.Settings, v string) (err error) {
		s.StoppedToo, err = strconv.ParseBool(v)
		return err
	}},
	{"polling-interval", "CADDY_DOCKER_POLLING_INTERVAL", "", "how often everything is listed; 1m if empty", duration(func(s *controller.Settings) *caddy.Duration { return &s.Resync })},
	{"event-throttle-interval", "CADDY_DOCKER_EVENT_THROTTLE_INTERVAL", "", "how long events are collected; 25ms if empty", duration(func(s *controller.Settings) *caddy.Duration { return &s.Throttle })},
	{"task-interval", "SKEP_INGRESS_TASK_INTERVAL", "", "how often tasks are listed, for Docker sends no event when one moves on another node; 5s if empty", duration(func(s *controller.Settings) *caddy.Duration { return &s.TaskPoll })},
	{"policy", "SKEP_INGRESS_POLICY", "", "what labels may do beside routing, as entries permission:name", func(s *controller.Settings, v string) error {
		s.Policy += "\n" + v
		return nil
	}},
	{"policy-file", "SKEP_INGRESS_POLICY_PATH", "", "file with such entries, one or more a line", func(s *controller.Settings, v string) error {
		if v == "" {
			return nil
		}
		text, err := os.ReadFile(v)
		s.Policy += "\n" + string(text)
		return err
	}},
	{"status", "SKEP_INGRESS_STATUS", controller.DefaultStatus, "address of the status page, of metrics and of health, or off", func(s *controller.Settings, v string) error {
		s.Status = v
		return nil
	}},
	{"state", "SKEP_INGRESS_STATE_PATH", "", "file with the last good configuration; below Caddy's data if empty", func(s *controller.Settings, v string) error {
		s.StatePath = v
		return nil
	}},
	{"admin", "CADDY_ADMIN", "off", "address of Caddy's admin API, or off; any site can proxy to it", func(s *controller.Settings, v string) error {
		if v != "off" {
			s.Admin = v
		}
		return nil
	}},
	{"access-log", "SKEP_INGRESS_ACCESS_LOG", "true", "log every request as JSON", func(s *controller.Settings, v string) error {
		on, err := strconv.ParseBool(v)
		s.NoAccessLog = !on
		return err
	}},
	{"not-found-page", "SKEP_INGRESS_NOT_FOUND_PAGE", "", "HTML file for hosts that no site has", func(s *controller.Settings, v string) error {
		s.NotFoundPage = v
		return nil
	}},
	{"maintenance-page", "SKEP_INGRESS_MAINTENANCE_PAGE", "", "HTML file for sites whose upstream is absent", func(s *controller.Settings, v string) error {
		s.MaintenancePage = v
		return nil
	}},
	{"mode", "CADDY_DOCKER_MODE", "standalone", "standalone; others are not supported", func(_ *controller.Settings, v string) error {
		if v != "standalone" {
			return errors.New("only standalone is supported")
		}
		return nil
	}},
	{"process-caddyfile", "CADDY_DOCKER_PROCESS_CADDYFILE", "true", "accepted for caddy-docker-proxy's sake; what is invalid is always left out", func(*controller.Settings, string) error { return nil }},
}

func duration(of func(*controller.Settings) *caddy.Duration) func(*controller.Settings, string) error {
	return func(s *controller.Settings, v string) error {
		if v == "" {
			return nil
		}
		d, err := time.ParseDuration(v)
		*of(s) = caddy.Duration(d)
		return err
	}
}

func dockerProxyCommand() caddycmd.Command {
	flags := flag.NewFlagSet("docker-proxy", flag.ExitOnError)
	for _, o := range options {
		flags.String(o.flag, o.standard, o.usage+" ($"+o.variable+")")
	}
	return caddycmd.Command{
		Name:  "docker-proxy",
		Usage: "[flags]",
		Short: "Serves what labels in Docker say",
		Long:  "Watches Docker and serves the sites that labels of services, containers and configs describe, in caddy-docker-proxy's grammar.",
		Flags: flags,
		Func: func(flags caddycmd.Flags) (int, error) {
			settings, err := settings(flags.String, os.Getenv)
			if err != nil {
				return caddy.ExitCodeFailedStartup, err
			}
			caddy.TrapSignals()
			if err := serve(settings); err != nil {
				return caddy.ExitCodeFailedStartup, err
			}
			select {} // Caddy ends the process on a signal
		},
	}
}

// settings reads every option.
func settings(flagOf, variable func(string) string) (controller.Settings, error) {
	var s controller.Settings
	for _, o := range options {
		value := flagOf(o.flag)
		if v := variable(o.variable); v != "" {
			value = v
		}
		if err := o.set(&s, value); err != nil {
			return s, fmt.Errorf("--%s (%s) %q: %w", o.flag, o.variable, value, err)
		}
	}
	s.Policy = strings.TrimSpace(s.Policy)
	return s, nil
}

// serve starts Caddy with the app alone, which brings the sites.
func serve(s controller.Settings) error {
	app, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	persist := false
	return caddy.Run(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &persist}},
		AppsRaw: caddy.ModuleMap{"skep": app},
	})
}
