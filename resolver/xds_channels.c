/* SPDX-License-Identifier: Apache-2.0 */
#include "resolver/xds.h"

const struct mesh_xds_transport mesh_xds_channels = {
    .open = mesh_channel_new,
    .close = mesh_channel_free,
    .path = mesh_channel_path,
    .send = mesh_channel_send,
    .restart = mesh_channel_restart,
    .fill = mesh_channel_fill,
    .drive = mesh_channel_drive,
    .describe = mesh_channel_describe,
};
